/*
 * The limit: writes of one size to many loopback sockets at a steady rate, and nothing else.
 *
 *     limit PORT SOCKETS
 *
 * Says when it listens, and when it has so many connections; then reads a line "FLUSHES_A_SECOND WRITES BYTES SECONDS" and
 * makes so many flushes, each of WRITES writes of BYTES bytes to the next sockets in turn. No frames are made, no
 * message is looked at, one buffer serves all: what it costs is what the kernel asks for these writes.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void write_all(int peer, const char *buffer, size_t size) {
    while (size) {
        ssize_t taken = write(peer, buffer, size);
        if (taken < 0)
            fail("write");
        buffer += taken;
        size -= (size_t)taken;
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    int count = atoi(argv[2]), yes = 1, door = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(door, (struct sockaddr *)&address, sizeof address) || listen(door, 1024))
        fail("listen");
    puts("{\"listens\": true}");
    fflush(stdout);
    int *peers = calloc((size_t)count, sizeof *peers);
    for (int n = 0; n < count; n++) {
        peers[n] = accept(door, NULL, NULL);
        if (peers[n] < 0)
            fail("accept");
        setsockopt(peers[n], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }
    puts("{\"ready\": true}");
    fflush(stdout);

    double flushes_a_second, seconds, writes, owed = 0;
    long bytes;
    if (scanf("%lf %lf %ld %lf", &flushes_a_second, &writes, &bytes, &seconds) != 4)
        return 2;
    char *buffer = malloc((size_t)bytes);
    memset(buffer, 'x', (size_t)bytes);
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    long pause_ns = (long)(1e9 / flushes_a_second), flushes = (long)(seconds * flushes_a_second);
    int next = 0;
    for (long flush = 0; flush < flushes; flush++) {
        for (owed += writes; owed >= 1; owed -= 1) {
            write_all(peers[next], buffer, (size_t)bytes);
            next = (next + 1) % count;
        }
        due.tv_nsec += pause_ns;
        due.tv_sec += due.tv_nsec / 1000000000L;
        due.tv_nsec %= 1000000000L;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    }
    pause();
    return 0;
}
