# Turns the comments of dbss.h and dbss.hpp into those that doxygen reads.
# The opening is the documentation of the file.
1,/^$/{
	s/"\(@[a-z ]*\)"/\1/g
	s/@/\\&/g
	1s|^/\*|/** @file|
	1s|^//|/// @file\n///|
	s|^//\([^/]\|$\)|///\1|
}
# The title of a section names the group of what follows.
/^\/\* =====/{
	N
	N
	s|^[^\n]*\n \* \([^\n]*\)\n.*|/** @name \1 */|
}
# Each handle has its comment at a second declaration.
/^typedef struct \(dbss_[a-z_]*\) \1;/d
s/^struct \(dbss_[a-z_]*\);/typedef struct \1 \1;/
# A program writes dbss:: alone.
/namespace v0/d
/^#define DBSS_\(API\|WARN_UNUSED\|DEPRECATED\)/d
s/@signal-safe/@signalsafe/
# Parameters that share a comment.
:again
s/\(@param [a-z_,]*,\) /\1/
t again
