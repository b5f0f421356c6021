/* What brings something in from outside: a request whose answer goes on and on, a file that grows, a directory, lines of whoever connects, a process, signals. The reactor's libuv, curl and
 * inotify do it, or the simulator. Its user is a source (sources/source.h), which knows what to make of it. */
#ifndef IO_FEED_H
#define IO_FEED_H

#include "base/bytes.h"

enum feed_kind {
    FEED_HTTP,                       /* GET `address`; redirects are followed */
    FEED_FILE,                       /* what the file `address` has, and what is written to it; when it is replaced or cut off, what is there then */
    FEED_DIRECTORY,                  /* what files the directory `address` has, each time that may have changed */
    FEED_TCP,                        /* bytes of those who connect to "host:port" */
    FEED_UNIX,                       /* … to a socket in the file system; what is left of an earlier one is replaced */
    FEED_STDIN,
    FEED_PROCESS,                    /* what `argv` writes to its standard output */
    FEED_SIGNAL,                     /* that the process got signal `number` */
    FEED_AMQP,                       /* messages of `queue` at the broker with the URI `address` */
    FEED_KINDS
};

#define FEED_WHY_MAX 500u
#define FEED_HEAD_MAX 1024u          /* bytes at the beginning of a file by which it is known again */

/* Where who declared it may send us to. */
enum feed_reach {
    FEED_REACHES_OUT,                /* the internet, and what the configuration allows */
    FEED_REACHES_MACHINE,            /* this machine, too */
    FEED_REACHES_ALL,                /* wherever our own process may: the configuration says it itself */
};

/* Borrowed until `begin` returns. */
struct feed_request {
    enum feed_kind kind;
    const char *address;
    const char *const *headers;      /* HTTP: "name: value" */
    unsigned header_count;
    const char *const *argv;         /* ends with NULL */
    int number;
    const char *name, *queue;        /* AMQP; name: what the connection is called there */
    uint16_t prefetch;               /* AMQP: so many messages come that were not settled */
    const uint64_t *offset;          /* AMQP: the first that comes, if the queue is a stream; NULL: it is not known */
    bool from_start;                 /* AMQP: … then the first that there is, instead of the next one that is published */
    uint64_t idle_ms;                /* HTTP: nothing came for so long: it is broken; 0: never */
    uint64_t size_max;               /* HTTP: of the answer's body; 0: no limit */
    uint64_t inode;                  /* FILE: what was read last, which may have another name in the same directory by now: it is read first if it is there; 0: none */
    unsigned connections_max;        /* TCP, UNIX */
    enum feed_reach reach;           /* HTTP, AMQP */
};

/* What is there to be read, before its first byte. Borrowed until `opened` returns. */
struct feed_opening {
    uint64_t stream;                 /* 0, or which connection; TCP, UNIX: 0 says that it is listened */
    unsigned status;                 /* HTTP */
    uint64_t retry_after_s;          /* HTTP: when the server wants to be asked again, of whichever form; 0: it does not say */
    /* HTTP: a header of the answer, by its name in lower case. False: there is none. NULL: not HTTP. */
    bool (*header)(const void *owner, struct bytes name, struct bytes *value);
    const void *owner;
    struct bytes peer;               /* TCP: "address:port" of who connected */
    uint64_t inode, size;            /* FILE; an opening may come again for the same one: it was cut off */
    struct bytes head;               /* FILE: its first bytes, FEED_HEAD_MAX at most */
    uint64_t offset;                 /* FILE: filled in by `opened`: where to begin */
};

/* One of a directory's files. */
struct feed_file {
    struct bytes name;
    uint64_t inode, size, changed_ns;   /* changed: since 1970 */
};

/* A message of a queue elsewhere, which stays there until it is settled here. */
struct feed_message {
    uint64_t number;                 /* of this feed, by which it is settled */
    struct bytes routing_key, properties, body;   /* properties: encoded, whole */
};

enum feed_outcome {
    FEED_OVER,                       /* it came to its end: of the answer, of the input, of the process */
    FEED_FORBIDDEN,                  /* it may not be connected to */
    FEED_UNREACHABLE,                /* no address, nobody takes the connection, no such file */
    FEED_BROKEN,                     /* what came is not what it should be, or ended half-way */
    FEED_TOO_LONG,                   /* longer than size_max */
    FEED_TIMED_OUT,
    FEED_NO_MEMORY,
};

struct feed_end {
    enum feed_outcome outcome;
    int status, signal;              /* PROCESS: how it exited, or what ended it */
    char why[FEED_WHY_MAX];          /* a sentence; empty: there is nothing to say */
};

struct feed;

/* Called outside of any turn of the broker's, never from inside `begin` or `cancel`; `came`, at times, from inside the `pause` that ends one. They may call `pause`, and neither `begin` nor
 * `cancel`. */
struct feed_events {
    void (*opened)(struct feed *feed, struct feed_opening *opening);
    void (*came)(struct feed *feed, uint64_t stream, struct bytes data);
    /* A connection ended; of FILE: nothing more will come of what is open. */
    void (*closed)(struct feed *feed, uint64_t stream);
    /* DIRECTORY: all of it; `whole` false: there were more than `count`. Sorted by name. */
    void (*listed)(struct feed *feed, const struct feed_file *files, unsigned count, bool whole);
    void (*signalled)(struct feed *feed, int number);
    void (*delivered)(struct feed *feed, const struct feed_message *message);
    /* It is over, and not under way any more. */
    void (*ended)(struct feed *feed, const struct feed_end *end);
};

/* The user embeds it. */
struct feed {
    const struct feed_events *events;
    void *transport;                 /* the feeder's; NULL: it is not under way */
};

struct feeder {
    /* False: there is too little memory, or the feeder has no such kind; nothing is told. */
    bool (*begin)(struct feeder *feeder, struct feed *feed, const struct feed_request *request);
    /* While it is paused nothing comes (one more piece at most; of AMQP, what was read already), and what comes then was not lost. */
    void (*pause)(struct feeder *feeder, struct feed *feed, bool paused);
    /* DIRECTORY: `listed` comes again, soon, as if something had changed. */
    void (*look_again)(struct feeder *feeder, struct feed *feed);
    /* AMQP: the message is taken over, and may go from there. One that is not known any more is passed over. */
    void (*settle)(struct feeder *feeder, struct feed *feed, uint64_t number);
    /* Nothing is told any more: what was not settled comes again. */
    void (*cancel)(struct feeder *feeder, struct feed *feed);
};

#endif
