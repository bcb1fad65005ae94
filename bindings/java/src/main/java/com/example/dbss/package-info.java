/**
 * Downloads audit reports from Huawei Cloud's Database Security Service (DBSS), by libdbss. {@link
 * com.example.dbss.DbssClient} is where to begin.
 */
package com.example.dbss;
