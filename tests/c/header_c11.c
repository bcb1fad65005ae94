/* The header needs no other header and is strict C11. */

#include <dbss.h>
#include <dbss.h>

#include "header.h"
