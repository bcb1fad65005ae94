/** How libdbss is found, loaded and called; only the package dbss uses it. */
package com.example.dbss.internal;
