#include "reload.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"

/* Values of the queued signals; a plain kill(1) sends none of these. */
enum { ASKED = 0x5e55, TAKEN, REFUSED };
enum { PATIENCE_MS = 30 * 1000 };

void reload_answer(const siginfo_t *asked, bool taken)
{
    if (asked->si_code == SI_QUEUE && asked->si_value.sival_int == ASKED)
        sigqueue(asked->si_pid, SIGUSR1, (union sigval){.sival_int = taken ? TAKEN : REFUSED});
}

/* The effective user of the process (proc(5)); root if unknown. /proc/PID itself belongs to root if
 * the process hides its memory. */
static uid_t user_of(intmax_t pid)
{
    char path[48], line[256];
    unsigned uid = 0;
    snprintf(path, sizeof(path), "/proc/%" PRIdMAX "/status", pid);
    FILE *status = fopen(path, "re");
    while (status && fgets(line, sizeof(line), status) && sscanf(line, "Uid: %*u %u", &uid) != 1)
        ;
    if (status)
        fclose(status);
    return uid;
}

/* Drops to the service's user: the service may signal only processes of its own user. */
static bool become(uid_t user)
{
    return geteuid() != 0 || user == 0 || (setgroups(0, NULL) == 0 && setuid(user) == 0);
}

/* Waits for the verdict of the process; 0: none came. */
static int await(pid_t pid, const sigset_t *answers)
{
    int64_t end_ms = clock_monotonic_ms() + PATIENCE_MS, left_ms = PATIENCE_MS;
    for (; left_ms > 0; left_ms = end_ms - clock_monotonic_ms()) {
        struct timespec left = {.tv_sec = left_ms / 1000, .tv_nsec = left_ms % 1000 * 1000000};
        siginfo_t answer;
        if (sigtimedwait(answers, &answer, &left) > 0 && answer.si_code == SI_QUEUE &&
            answer.si_pid == pid)
            return answer.si_value.sival_int;
    }
    return 0;
}

static int report_failure(const char *whom, const char *why)
{
    fprintf(stderr, "sessiond: process %s %s\n", whom, why);
    return EXIT_RUNTIME;
}

int reload_command(const struct arguments *arguments)
{
    char *end;
    errno = 0;
    intmax_t pid = strtoimax(arguments->operand, &end, 10);
    if (errno != 0 || *end != '\0' || pid <= 1 || pid > INT32_MAX) {
        fprintf(stderr, "sessiond: reload needs the id of a process, a number above 1\n");
        return EXIT_USAGE;
    }
    sigset_t answers;
    sigemptyset(&answers);
    sigaddset(&answers, SIGUSR1);
    sigprocmask(SIG_BLOCK, &answers, NULL);
    if (!become(user_of(pid)) ||
        sigqueue((pid_t)pid, SIGHUP, (union sigval){.sival_int = ASKED}) != 0)
        return report_failure(arguments->operand, strerrordesc_np(errno));
    int verdict = await((pid_t)pid, &answers);
    if (verdict == REFUSED)
        return report_failure(arguments->operand,
                              "refuses the reload: config_refused in its log tells why");
    if (verdict != TAKEN)
        return report_failure(arguments->operand,
                              "has not said whether it reloaded; its log tells");
    return EXIT_DONE;
}
