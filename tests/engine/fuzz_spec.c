/* Gives the launcher's reader of specifications many inputs, each in a process of its own.
 *
 * Standard input: for each input its size (32 bit, little-endian) and its bytes. Prints the number of each
 * input whose process ended in another way than the reader's own `_exit(0 or 1)`, and ends with their count. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher.h"

static size_t look_at_overlay(const struct overlay *overlay) {
    size_t seen = strlen(overlay->upper) + strlen(overlay->work);
    for (uint32_t i = 0; i < overlay->count; i++) seen += strlen(overlay->lowers[i]);
    return seen;
}

/* Touch all that was read, as the launcher would. */
static size_t look_at(const struct spec *spec) {
    size_t seen = strlen(spec->hostname) + strlen(spec->cwd) + strlen(spec->netns) + strlen(spec->in) +
                  strlen(spec->out) + strlen(spec->err) + look_at_overlay(&spec->rootfs);
    for (uint32_t i = 0; i < spec->group_count; i++) seen += spec->groups[i];
    for (uint32_t i = 0; i < spec->cgroup_count; i++) seen += strlen(spec->cgroups[i]);
    for (uint32_t i = 0; i < spec->mount_count; i++) {
        const struct mount *mount = &spec->mounts[i];
        seen += strlen(mount->target);
        if (mount->kind == M_OVERLAY) seen += look_at_overlay(&mount->overlay);
        if (mount->kind == M_TMPFS) seen += strlen(mount->options);
        if (mount->kind == M_BIND || mount->kind == M_OVERLAY) seen += strlen(mount->source);
        for (uint32_t at = 0; mount->kind == M_FILE && at < mount->size; at++) seen += (size_t)mount->source[at];
    }
    for (char **text = spec->argv; *text; text++) seen += strlen(*text);
    for (char **text = spec->env; *text; text++) seen += strlen(*text);
    return seen;
}

int main(void) {
    uint32_t size;
    int bad = 0;
    for (int number = 0; fread(&size, sizeof size, 1, stdin) == 1; number++) {
        char *input = malloc(size + 1);
        if (input == NULL || fread(input, 1, size, stdin) != size) return 100;
        int file = memfd_create("input", 0);
        if (file < 0 || write(file, input, size) != (ssize_t)size) return 100;
        pid_t child = fork();
        if (child == 0) {
            static struct spec spec;
            if (dup2(file, SPEC_FD) < 0) _exit(101);
            read_spec(&spec);
            volatile size_t seen = look_at(&spec);
            _exit(seen == (size_t)-1);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child) return 100;
        if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) {
            printf("%d\n", number);
            if (bad < 99) bad++;
        }
        free(input);
        close(file);
    }
    return bad;
}
