/* AMQP field tables and arrays (specification, section 4.2.5.5), with the types as RabbitMQ and its clients use them (RabbitMQ's errata to 0-9-1, section 3).
 *
 *   table: size (4), then fields:   name's length (1), name, type (1), value
 *   array: size (4), then values:   type (1), value
 *
 *   t boolean      1 byte       s signed 16    u unsigned 16     S string      size (4), bytes
 *   b signed 8                  I signed 32    i unsigned 32     x bytes       size (4), bytes
 *   B unsigned 8                l signed 64    L signed 64       A array       size (4), values
 *   f, d IEEE 754 of 4, 8 bytes  D decimal: scale (1), unsigned (4)            F table       size (4), fields
 *   T timestamp: seconds, 8 bytes               V nothing
 *
 * Everything that is read points into the caller's bytes, which do not include the leading size. */
#ifndef PROTOCOL_AMQP_TABLE_H
#define PROTOCOL_AMQP_TABLE_H

#include "protocol/amqp/wire.h"

#define AMQP_TABLE_DEPTH_MAX 16 /* a table in a table in a table …; also arrays */

struct amqp_field {
    struct bytes name;      /* empty in an array */
    uint8_t type;           /* the letter above */
    uint8_t scale;          /* of a decimal */
    union {
        int64_t integer;    /* t, b, B, s, u, I, i, l, L, T, D */
        double real;        /* f, d */
        struct bytes bytes; /* S, x, A, F */
    };
};

/* Reads the next field of a table's (or value of an array's) bytes and moves `rest` past it. MORE: there is none left. BAD: it is cut off or of no known type.
 * What lies inside a nested table or array is not looked at. */
enum wire_answer amqp_table_next(struct bytes *rest, struct amqp_field *field);
enum wire_answer amqp_array_next(struct bytes *rest, struct amqp_field *field);

/* Is every field at every level whole, of a known type, and nothing nested deeper than AMQP_TABLE_DEPTH_MAX? */
bool amqp_table_valid(struct bytes table);

/* The first field of that name in a valid table. */
bool amqp_table_find(struct bytes table, const char *name, struct amqp_field *field);

/* Is the field a number without a fraction (b, B, s, u, I, i, l, L)? */
bool amqp_field_is_integer(const struct amqp_field *field);

/* What RabbitMQ calls a type: "longstr" for S, "signedint" for I, …; "void" for what is none. */
const char *amqp_field_type_name(uint8_t type);

/* The boolean of that name in a valid table; false when it is missing or something else. */
bool amqp_table_flag(struct bytes table, const char *name);

/* Builds a table in the caller's memory. Writing past its end is remembered, not done: ask table_finish at the end. */
struct amqp_table_writer {
    uint8_t *begin, *at, *end;
    bool overflow;
};

/* Begins with room for the leading size. */
void amqp_table_begin(struct amqp_table_writer *writer, void *room, size_t size);
void amqp_table_put_bool(struct amqp_table_writer *writer, const char *name, bool value);
void amqp_table_put_int(struct amqp_table_writer *writer, const char *name, int32_t value);
void amqp_table_put_long(struct amqp_table_writer *writer, const char *name, int64_t value);
void amqp_table_put_text(struct amqp_table_writer *writer, const char *name, struct bytes value);
/* A field whose value's bytes, leading size included where it has one, are given as they are. */
void amqp_table_put_raw(struct amqp_table_writer *writer, struct bytes name, uint8_t type, struct bytes value);
/* All fields of a valid table but those of these two names (NULL: none). */
void amqp_table_put_all(struct amqp_table_writer *writer, struct bytes table, const char *without, const char *nor);
/* The fields between the two become a nested table. `mark` is what begin answered. */
size_t amqp_table_nest_begin(struct amqp_table_writer *writer, const char *name);
void amqp_table_nest_end(struct amqp_table_writer *writer, size_t mark);
/* The table without its leading size (which is written before it); false when it did not fit. */
bool amqp_table_finish(struct amqp_table_writer *writer, struct bytes *table);

#endif
