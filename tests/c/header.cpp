/* The header needs no other header and is valid C++. */

#include <dbss.h>
#include <dbss.h>

#include "header.h"
