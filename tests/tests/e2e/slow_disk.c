/* Preloaded into pinger: a sync of a file or folder of its spool takes two seconds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One byte for each sync that has begun. */
static void note(void)
{
	const char *name = getenv("SLOW_DISK_LOG");
	int log = name ? open(name, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;

	if (log >= 0) {
		if (write(log, ".", 1) < 0)
			abort();
		close(log);
	}
}

static int slow(int fd, long call)
{
	char link[64], path[4096];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	path[length > 0 ? length : 0] = 0;
	if (strstr(path, "/spool/")) {
		note();
		sleep(2);
	}
	return syscall(call, fd);
}

int fsync(int fd)
{
	return slow(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return slow(fd, SYS_fdatasync);
}
