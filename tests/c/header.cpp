/* The header is enough for itself, comes first, and is C++ too. */

#include <dbss.h>
#include <dbss.h>

#include "header.h"
