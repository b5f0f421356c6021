/* FEED_AMQP (io/feed.h): a line (client/line.h) to another broker, on the loop of a set of feeders. It ends with the first thing that goes wrong: when it begins again is for its user to say. */
#ifndef HOST_FEED_AMQP_H
#define HOST_FEED_AMQP_H

#include "runtime/feeder.h"

extern const struct feeding_kind feeding_amqp;

#endif
