/* Addresses to listen on, as texts. */
#ifndef SERVER_ADDRESS_H
#define SERVER_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define ADDRESSES_MAX 16u
#define ADDRESS_TEXT_SIZE 64u

struct address_list {
    struct sockaddr_storage items[ADDRESSES_MAX];
    unsigned count;
};

/* "0.0.0.0,::1" with this port each; brackets and spaces are fine. False: `bad` (of `size` bytes) is the part that is no address (or one too many). */
bool address_list_parse(const char *text, uint16_t port, struct address_list *list, char *bad, size_t size);

/* "127.0.0.1:5672", "[::1]:5672". */
void address_text(const struct sockaddr_storage *address, char text[ADDRESS_TEXT_SIZE]);

/* "127.0.0.1", "::1". */
void address_host(const struct sockaddr_storage *address, char host[ADDRESS_TEXT_SIZE]);

uint16_t address_port(const struct sockaddr_storage *address);
void address_set_port(struct sockaddr_storage *address, uint16_t port);

/* Where a client on this machine finds it: the loopback address where it stands for all addresses. */
struct sockaddr_storage address_to_dial(const struct sockaddr_storage *address);

#endif
