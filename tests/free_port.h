/* tests/free_port.h - a port of this machine to listen on where the listener cannot be asked which one it
 * took. Somebody may take it in between: whoever asks tries FREE_PORT_TRIES times.
 */
#ifndef FREE_PORT_H
#define FREE_PORT_H
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#define FREE_PORT_TRIES 3

/* One that was free a moment ago; 0: none. */
static inline int free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool there = fd >= 0 && bind(fd, (struct sockaddr *)(void *)&a, n) == 0 &&
                 getsockname(fd, (struct sockaddr *)(void *)&a, &n) == 0;
    if (fd >= 0) close(fd);
    return there ? ntohs(a.sin_port) : 0;
}

#endif
