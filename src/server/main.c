/* godwit: the one place that sees everything. */
#include "cli/program.h"
#ifdef GODWIT_HAS_SERVE
#include "server/serve.h"
#endif
#include "sim/sim.h"

int main(int argc, char **argv)
{
    static const struct program_entry entries[] = {
#ifdef GODWIT_HAS_SERVE
        {"serve", serve_main},
#endif
        {"sim", sim_main},
    };
    return program_main(argc, argv, entries, sizeof(entries) / sizeof(entries[0]));
}
