/* System calls that Docker's default profile denies to a container without extra capabilities.
 *
 * Included by one file for each instruction set, after the header that numbers its calls. */

static const int denied_numbers[] = {
#ifdef __NR__sysctl
    __NR__sysctl,
#endif
    __NR_acct, __NR_add_key,
#ifdef __NR_bpf
    __NR_bpf,
#endif
    __NR_clock_settime, __NR_clock_adjtime, __NR_adjtimex,
#ifdef __NR_clock_settime64
    __NR_clock_settime64, __NR_clock_adjtime64,
#endif
#ifdef __NR_create_module
    __NR_create_module, __NR_get_kernel_syms, __NR_query_module,
#endif
    __NR_delete_module, __NR_fanotify_init, __NR_finit_module, __NR_fsconfig, __NR_fsmount, __NR_fsopen,
    __NR_fspick, __NR_get_mempolicy, __NR_init_module, __NR_io_uring_enter, __NR_io_uring_register,
    __NR_io_uring_setup,
#ifdef __NR_ioperm
    __NR_ioperm, __NR_iopl,
#endif
    __NR_kcmp,
#ifdef __NR_kexec_file_load
    __NR_kexec_file_load,
#endif
    __NR_kexec_load, __NR_keyctl, __NR_lookup_dcookie, __NR_mbind, __NR_migrate_pages, __NR_mount,
    __NR_mount_setattr, __NR_move_mount, __NR_move_pages, __NR_nfsservctl, __NR_open_by_handle_at,
    __NR_open_tree, __NR_perf_event_open, __NR_pidfd_getfd, __NR_pivot_root, __NR_process_madvise,
    __NR_quotactl, __NR_quotactl_fd, __NR_reboot, __NR_request_key, __NR_set_mempolicy, __NR_setdomainname,
#ifdef __NR_set_mempolicy_home_node
    __NR_set_mempolicy_home_node,
#endif
    __NR_sethostname, __NR_setns, __NR_settimeofday,
#ifdef __NR_stime
    __NR_stime,
#endif
    __NR_swapoff, __NR_swapon, __NR_syslog,
#ifdef __NR_sysfs
    __NR_sysfs,
#endif
#ifdef __NR_umount
    __NR_umount,
#endif
    __NR_umount2, __NR_unshare,
#ifdef __NR_uselib
    __NR_uselib,
#endif
    __NR_userfaultfd,
#ifdef __NR_ustat
    __NR_ustat,
#endif
    __NR_vhangup,
#ifdef __NR_vm86
    __NR_vm86, __NR_vm86old,
#endif
};

/* Calls after this one are newer than the profile: the container is told that they do not exist. */
#ifdef __NR_cachestat
#define LAST_KNOWN __NR_cachestat
#else
#define LAST_KNOWN __NR_set_mempolicy_home_node
#endif
