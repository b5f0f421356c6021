/* Opens and closes a bus over and over, and says what that leaves behind: opens DIRECTORY COUNT */
#include <dirent.h>
#include <godwit.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

static int descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void on_event(gw_event *event, void *context)
{
    ++*(int *)context;
    gw_event_ack(event);
}

static void on_closed(void *context, int result)
{
    *(int *)context = result == 0 ? 1 : 2;
}

static int once(gw_loop *loop, const char *directory)
{
    int handled = 0, closed = 0;
    gw_bus *bus = gw_open(loop, directory, NULL);
    if (!bus) {
        fprintf(stderr, "%s\n", gw_error(loop));
        return 1;
    }
    gw_on(bus, "a", on_event, &handled, NULL);
    gw_on(bus, "#", on_event, &handled, &(gw_handler_options){.transient = 1});
    gw_publish(bus, "a", "x", 1, NULL, NULL, NULL);
    while (handled < 2)
        gw_loop_step(loop);
    gw_close(bus, 1000, on_closed, &closed);
    while (!closed)
        gw_loop_step(loop);
    return closed != 1;
}

int main(int argc, char **argv)
{
    int count = argc > 2 ? atoi(argv[2]) : 10;
    gw_loop *loop = gw_loop_new();
    size_t before = 0;
    int open_before = 0;
    for (int i = 0; i < count; i++) {
        if (once(loop, argv[1]) != 0)
            return 1;
        if (i == count / 10) {   /* what is kept for the next one is kept by now */
            malloc_trim(0);
            before = mallinfo2().uordblks;
            open_before = descriptors();
        }
    }
    malloc_trim(0);
    printf("%ld bytes more, %d descriptors more\n", (long)mallinfo2().uordblks - (long)before, descriptors() - open_before);
    gw_loop_free(loop);
    return 0;
}
