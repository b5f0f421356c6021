/* Where a message lies in its queue, as text: its sequence number is larger than a number of JSON may be.
 *
 *   17              in a queue without priorities, or with priority 0
 *   5/17            with priority 5
 *   scheduled/17    not due yet, see schedule.h
 */
#ifndef BROKER_POSITION_H
#define BROKER_POSITION_H

#include "base/bytes.h"

#define POSITION_SIZE 40u   /* bytes of the longest, with a zero behind it */

/* Writes it into `text`, and answers it. */
struct bytes position_write(uint64_t seq, char text[POSITION_SIZE]);

/* False: it is none. */
bool position_parse(struct bytes text, uint64_t *seq);

#endif
