/* Connections to the broker's HTTP without sockets: requests are written, arrive at a worker's gateway in pieces, late, and their answers come back so. One request at a time. */
#ifndef SIM_BUS_DOOR_H
#define SIM_BUS_DOOR_H

#include "protocol/gateway/gateway.h"
#include "sim/sim_broker.h"
#include "sim/sim_net.h"

struct bus_doors;

struct bus_door {
    struct bus_doors *doors;
    struct gateway *gateway;         /* NULL: it is not connected */
    unsigned number, worker;
    struct link link;
    bool look;                       /* the gateway has something to say */
    bool is_waiting;                 /* for an answer */
    bool is_patient;                 /* … that takes its time: nobody is to wait for it */
    const char *head;                /* of the answer, while `answered` is called */
    size_t head_size;
    /* The answer has come: its body is borrowed, with a zero behind it. Status 0: it never will, and what was asked may have been done or not. */
    void (*answered)(void *owner, struct bus_door *door, unsigned status, const char *body, size_t size);
    void *owner;
};

struct bus_doors {
    struct sim_broker *broker;
    struct random *random;
    struct trace *trace;
    struct gateway_config config;
    struct bus_house {
        struct gateway_hall hall;
        struct http_host host;
    } houses[SIM_WORKERS_MAX];
    struct bus_door *doors;
    unsigned count;
    uint64_t life;                   /* of the broker, from 1: what makes it another one */
};

/* The doors are borrowed. */
void bus_doors_init(struct bus_doors *doors, struct sim_broker *broker, struct bus_door *list, unsigned count);
void bus_doors_deinit(struct bus_doors *doors);

/* The broker's: see struct sim_lodgers. bus_doors_made: the halls know their workers from then on. */
void bus_doors_made(struct bus_doors *doors);
bool bus_doors_before_turn(struct bus_doors *doors, unsigned worker);
bool bus_doors_after_turn(struct bus_doors *doors, unsigned worker);
bool bus_doors_at_rest(const struct bus_doors *doors);
uint64_t bus_doors_deadline(const struct bus_doors *doors);
void bus_doors_ending(struct bus_doors *doors);
void bus_doors_ended(struct bus_doors *doors);

/* Sends a request, connecting first where there is no connection: `head` is its first line and further ones, each with its line end. It must not be waiting. False: it is refused. */
bool bus_door_ask(struct bus_door *door, const char *head, const void *body, size_t size);
/* Looks for its answer. True: something happened. */
bool bus_door_read(struct bus_door *door);
/* Somebody waits for its answer, and what is asked is to be asked, and answered, without time jumping. */
bool bus_door_is_pressing(const struct bus_door *door);
/* In `answered`: the value of a header, as much of it as fits. False: it is not there. */
bool bus_door_header(const struct bus_door *door, const char *name, char *room, size_t size);
/* It goes, and is told so if it is waiting. */
void bus_door_drop(struct bus_door *door);
/* It goes, if it is not waiting. */
void bus_door_close(struct bus_door *door);

#endif
