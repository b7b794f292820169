/* members.h: members of a grid that does not exist, for tests of the registry. Thread: one. */
#pragma once
#include "grid/member.h"

/* A valid entry: the key, and so the id, follows from n; name "member-N", joins 1, version 1,
 * written by itself. */
struct member member_made(int n);
