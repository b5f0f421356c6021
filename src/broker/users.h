/* Users' passwords: RabbitMQ's rabbit_password_hashing_sha256: 4 bytes of salt, then SHA-256 of salt and password. */
#ifndef BROKER_USERS_H
#define BROKER_USERS_H

#include "broker/topology.h"

#define SECRET_SIZE 36u

/* False: the digest could not be computed. */
bool secret_make(const uint8_t salt[4], struct bytes password, uint8_t secret[SECRET_SIZE]);

/* In constant time. `user` NULL: computes as much, answers false. */
bool secret_matches(const struct user *user, struct bytes password);

#endif
