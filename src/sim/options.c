#include "sim/options.h"

#include "base/bugs.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const fault_names[] = {"none", "crash", "all"};

void sim_options_usage(void)
{
    printf("usage: godwit sim [options]\n"
           "Runs whole brokers, clients, disks and networks in one thread, everything drawn from a seed, and checks them against a model.\n"
           "  --seed N          one seed (default 1)\n"
           "  --seeds A..B      all seeds from A to B\n"
           "  --ops N           client operations in each seed (default 10000)\n"
           "  --faults LEVEL    none, crash (the default) or all\n"
           "  --crash-at K      the process dies at the disk's Kth operation\n"
           "  --nomem-at K      the Kth allocation fails (only in the program that was linked for it)\n"
           "  --log             the file log alone\n"
           "  --features        queues with arguments: expiry, lengths, dead letters, priorities, limits, delays, streams, groups, ids, retries, transactions, filters\n"
           "  --bus             subscriptions: webhooks with retries, order, breakers, handshakes, pauses and ends, over virtual days\n"
           "  --sources         the broker's own sources: streams, files and clocks, over crashes at any step and virtual days\n"
           "  --handlers        a program with libgodwit: its handlers, over crashes at any step and virtual days\n"
           "  --only LIST       of these only: ttl,expiration,drop-head,reject-publish,priority,delivery-limit,single-active,delay,stream,groups,group-fair,dedup,retry,half,filter,inside\n"
           "  --planted         find every planted bug (needs a build with -Dplanted_bugs=true)\n"
           "  --bug NAME        plant one bug\n"
           "  --verbose         print every event\n");
}

static bool read_number(const char *text, uint64_t *number)
{
    char *end;
    *number = strtoull(text, &end, 0);
    return *text >= '0' && *text <= '9' && *end == 0;
}

static bool read_range(const char *text, uint64_t *first, uint64_t *last)
{
    char *end;
    *first = strtoull(text, &end, 0);
    return *text >= '0' && *text <= '9' && strncmp(end, "..", 2) == 0 && read_number(end + 2, last) && *first <= *last;
}

static bool read_faults(const char *text, enum sim_fault_level *faults)
{
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(text, fault_names[i]) == 0) {
            *faults = (enum sim_fault_level)i;
            return true;
        }
    }
    return false;
}

/* The names of enum chain_features, in its order. */
static const char *const feature_names[] = {"ttl", "expiration", "drop-head", "reject-publish", "priority", "delivery-limit", "single-active", "delay", "stream", "groups", "group-fair",
                                            "dedup", "retry", "half", "filter", "inside"};
#define FEATURE_NAMES (sizeof(feature_names) / sizeof(*feature_names))

static bool read_only(const char *text, unsigned *features)
{
    while (*text) {
        size_t size = strcspn(text, ",");
        unsigned i = 0;
        while (i < FEATURE_NAMES && (strlen(feature_names[i]) != size || strncmp(text, feature_names[i], size) != 0))
            i++;
        if (i == FEATURE_NAMES)
            return false;
        *features |= 1u << i;
        text += size + (text[size] == ',');
    }
    return *features != 0;
}

/* Appends " --only a,b" for the features. */
static int write_only(unsigned features, char *text, unsigned room)
{
    int size = 0;
    for (unsigned i = 0; i < FEATURE_NAMES; i++)
        if ((features >> i & 1) && (unsigned)size < room)
            size += snprintf(text + size, room - (unsigned)size, "%s%s", size ? "," : " --only ", feature_names[i]);
    return size;
}

bool sim_options_read(struct sim_options *options, int argc, char **argv)
{
    enum { SEED = 1, SEEDS, OPS, FAULTS, CRASH_AT, NOMEM_AT, LOG, FEATURES, BUS, SOURCES, HANDLERS, ONLY, PLANTED, BUG, VERBOSE, HELP };
    static const struct option names[] = {
        {"seed", required_argument, NULL, SEED}, {"seeds", required_argument, NULL, SEEDS}, {"ops", required_argument, NULL, OPS},
        {"faults", required_argument, NULL, FAULTS}, {"crash-at", required_argument, NULL, CRASH_AT},
        {"nomem-at", required_argument, NULL, NOMEM_AT}, {"log", no_argument, NULL, LOG}, {"features", no_argument, NULL, FEATURES}, {"bus", no_argument, NULL, BUS},
        {"sources", no_argument, NULL, SOURCES}, {"handlers", no_argument, NULL, HANDLERS},
        {"only", required_argument, NULL, ONLY}, {"planted", no_argument, NULL, PLANTED},
        {"bug", required_argument, NULL, BUG}, {"verbose", no_argument, NULL, VERBOSE}, {"help", no_argument, NULL, HELP}, {0},
    };
    *options = (struct sim_options){.first_seed = 1, .last_seed = 1, .ops = 10000, .faults = SIM_FAULTS_CRASH, .bug = -1};
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        bool good = true;
        switch (option) {
        case SEED:
            good = read_number(optarg, &options->first_seed);
            options->last_seed = options->first_seed;
            break;
        case SEEDS: good = read_range(optarg, &options->first_seed, &options->last_seed); break;
        case OPS: good = read_number(optarg, &options->ops); break;
        case FAULTS: good = read_faults(optarg, &options->faults); break;
        case CRASH_AT: good = read_number(optarg, &options->crash_at); break;
        case NOMEM_AT: good = read_number(optarg, &options->nomem_at); break;
        case LOG: options->log_only = true; break;
        case FEATURES: options->features = true; break;
        case BUS: options->bus = true; break;
        case SOURCES: options->sources = true; break;
        case HANDLERS: options->handlers = true; break;
        case ONLY: good = read_only(optarg, &options->only); break;
        case PLANTED: options->planted = true; break;
        case BUG:
            options->bug = bug_find(optarg);
            good = options->bug >= 0;
            break;
        case VERBOSE: options->verbose = true; break;
        default:
            sim_options_usage();
            if (option == HELP)
                exit(0);
            return false;
        }
        if (!good) {
            fprintf(stderr, "godwit sim: '%s' makes no sense there\n", optarg);
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "godwit sim: unknown argument '%s'\n", argv[optind]);
        return false;
    }
    return true;
}

void sim_options_command(const struct sim_options *options, uint64_t seed, char *text, unsigned room)
{
    const char *what = options->log_only ? " --log" : options->features ? " --features" : options->bus ? " --bus" : options->sources ? " --sources" : options->handlers ? " --handlers" : "";
    int size = snprintf(text, room, "godwit sim --seed %" PRIu64 " --ops %" PRIu64 " --faults %s%s", seed, options->ops, fault_names[options->faults], what);
    if (options->only && size > 0 && (unsigned)size < room)
        size += write_only(options->only, text + size, room - (unsigned)size);
    if (options->crash_at && size > 0 && (unsigned)size < room)
        size += snprintf(text + size, room - (unsigned)size, " --crash-at %" PRIu64, options->crash_at);
    if (options->nomem_at && size > 0 && (unsigned)size < room)
        size += snprintf(text + size, room - (unsigned)size, " --nomem-at %" PRIu64, options->nomem_at);
    if (options->bug >= 0 && size > 0 && (unsigned)size < room)
        snprintf(text + size, room - (unsigned)size, " --bug %s", bug_name(options->bug));
}
