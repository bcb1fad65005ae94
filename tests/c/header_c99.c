/* The header is enough for itself, comes first, and is strict C99. */

#include <dbss.h>
#include <dbss.h>

#include "header.h"
