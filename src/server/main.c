/* godwit: the one place that sees everything. */
#include "cli/program.h"
#include "runtime/standard_files.h"
#include "server/receiver.h"
#include "server/serve.h"
#include "sim/sim.h"

int main(int argc, char **argv)
{
    static const struct program_entry entries[] = {
        {"serve", serve_main},
        {"sim", sim_main},
        {"sink", receiver_main},
    };
    standard_files_keep();
    return program_main(argc, argv, entries, sizeof(entries) / sizeof(entries[0]));
}
