#include "runtime/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#define BACKLOG 4096   /* the kernel cuts it to net.core.somaxconn */

socklen_t listener_address_size(const struct sockaddr *address)
{
    return address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static enum gw_err listen_error(int error)
{
    switch (error) {
    case EADDRINUSE: return GW_ERR_EXISTS;
    case EADDRNOTAVAIL: return GW_ERR_INVALID;
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT: return GW_ERR_NOT_FOUND;
    default: return gw_err_from_errno(error);
    }
}

enum gw_err listener_open(const struct sockaddr *address, bool shared, int *listener)
{
    int on = 1;
    int s = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0)
        return listen_error(errno);
    if (setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (shared && setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) ||
        (address->sa_family == AF_INET6 && setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
        bind(s, address, listener_address_size(address)) != 0 || listen(s, BACKLOG) != 0) {
        enum gw_err err = listen_error(errno);
        close(s);
        return err;
    }
    *listener = s;
    return GW_OK;
}

enum gw_err listener_probe(struct sockaddr *address)
{
    int s;
    enum gw_err err = listener_open(address, false, &s);
    if (err != GW_OK)
        return err;
    socklen_t size = listener_address_size(address);
    if (getsockname(s, address, &size) != 0)
        err = gw_err_from_errno(errno);
    close(s);
    return err;
}
