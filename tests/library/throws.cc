// A handler that throws: what was in its hands failed, and the loop goes on when it is run again.
#include <godwit.h>

#include <cstdio>
#include <stdexcept>
#include <string>

static gw_loop *loop;

static void on_event(gw_event *event, void *context)
{
    int &thrown = *static_cast<int *>(context);
    std::string local = "what has a destructor";
    if (gw_event_attempt(event) == 1) {
        thrown++;
        throw std::runtime_error(std::string("not ") + static_cast<const char *>(gw_event_header(event, "what")));
    }
    std::printf("handled at attempt %u after %d exceptions\n", gw_event_attempt(event), thrown);
    gw_event_ack(event);
    gw_loop_stop(loop);
}

static int run(const char *directory, bool transient)
{
    int thrown = 0;
    loop = gw_loop_new();
    gw_bus *bus = gw_open(loop, directory, nullptr);
    const uint64_t soon[] = {1};
    gw_handler_options options = {};
    options.retry_delays_ms = soon;
    options.retry_delay_count = 1;
    options.transient = transient;
    gw_on(bus, "job", on_event, &thrown, &options);
    const gw_header header = {"what", "today"};
    gw_publish_options what = {};
    what.headers = &header;
    what.header_count = 1;
    what.transient = transient;
    if (gw_publish(bus, "job", nullptr, 0, &what, nullptr, nullptr) != GW_DONE)
        return 1;
    for (bool again = true; again;) {
        try {
            gw_loop_run(loop);
            again = false;
        } catch (const std::exception &error) {
            std::printf("caught: %s\n", error.what());
        }
    }
    gw_loop_free(loop);
    return 0;
}

int main(int argc, char **argv)
{
    return argc < 2 ? 1 : run(argv[1], false) + run(":memory:", true);
}
