#include "base/bugs.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name, *text;
} bugs[] = {
#define BUG(NAME, text, what) {text, what},
    PLANTED_BUGS(BUG)
#undef BUG
};

#ifdef GODWIT_PLANTED_BUGS
static int planted = -1;

#undef bug_enabled
bool bug_enabled(enum bug bug)
{
    return planted == (int)bug;
}

bool bug_plant(int bug)
{
    planted = bug;
    return true;
}
#else
bool bug_plant(int bug)
{
    return bug < 0;
}
#endif

const char *bug_name(int bug)
{
    return bug >= 0 && bug < BUG_COUNT ? bugs[bug].name : "none";
}

const char *bug_text(int bug)
{
    return bug >= 0 && bug < BUG_COUNT ? bugs[bug].text : "";
}

int bug_find(const char *name)
{
    for (int i = 0; i < BUG_COUNT; i++)
        if (strcmp(bugs[i].name, name) == 0)
            return i;
    return -1;
}
