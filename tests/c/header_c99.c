/* The header needs no other header and is strict C99. */

#include <dbss.h>
#include <dbss.h>

#include "header.h"
