#!/bin/bash
# A SLURM of one node on loopback, with accounting, as root and without systemd:
#   cluster.sh start|restart-controller|stop FOLDER
# It leaves FOLDER/environment, which commands and jobs need. Nothing outside of FOLDER is written.
# Needs Debian's slurm-wlm, munge, slurmdbd and mariadb-server-core.
set -eu
action=$1 folder=$(realpath -m "$2") host=$(hostname -s)

wait_for() {
    for _ in $(seq 150); do
        "$@" >"$folder/log/waiting" 2>&1 && return
        sleep 0.2
    done
    echo "cluster.sh: gave up waiting for: $*" >&2
    cat "$folder/log/waiting" >&2
    return 1
}

# Ends a daemon by its recorded id, never by name.
end() {
    [ -s "$folder/run/$1.pid" ] || return 0
    local pid
    pid=$(cat "$folder/run/$1.pid")
    kill "$pid" 2>/dev/null || return 0
    wait_for bash -c "! kill -0 $pid"
}

node_is_idle() { [ "$(sinfo --noheader --format %T)" = idle ]; }

write_settings() {
    mkdir -p "$folder"/{etc,state,spool,log,run,bin,database}
    chmod 755 "$folder" "$folder/run"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/etc/munge.key")
    # What all daemons are told; the address flags keep them on loopback.
    cat >"$folder/etc/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.sock
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MailProg=/bin/true
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=26819
AccountingStoragePass=$folder/run/munge.sock
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
GresTypes=gpu
# More than there may be here, so that any machine will do for what the profile asks.
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=32 RealMemory=128000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    # Files that every machine has stand for cards; a count alone drains the node.
    echo "NodeName=$host Name=gpu Type=fake File=/dev/null,/dev/zero" >"$folder/etc/gres.conf"
    cat >"$folder/etc/slurmdbd.conf" <<END
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=26819
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.sock
CommunicationParameters=NoInAddrAny
PidFile=$folder/run/slurmdbd.pid
LogFile=$folder/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=accounting
END
    chmod 600 "$folder/etc/slurmdbd.conf"
    # Within a job, Snakemake's plugin takes SLURM_CONF away from the srun that it calls.
    printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$folder/etc/slurm.conf" "$(command -v srun)" >"$folder/bin/srun"
    chmod +x "$folder/bin/srun"
    echo "export SLURM_CONF=$folder/etc/slurm.conf PATH=$folder/bin:\$PATH" >"$folder/environment"
}

start() {
    getent hosts "$host" | grep -q '^127\.' || {
        echo "cluster.sh: $host must resolve to 127.0.0.1; add it to /etc/hosts" >&2
        exit 1
    }
    write_settings
    # By force, because folders of tests are closed to other users.
    munged --force --key-file="$folder/etc/munge.key" --socket="$folder/run/munge.sock" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged.log" --seed-file="$folder/run/munge.seed" --num-threads=2 \
        2>>"$folder/log/start.log"
    mariadb-install-db --no-defaults --user=root --datadir="$folder/database" --skip-test-db \
        --auth-root-authentication-method=socket --auth-root-socket-user=root >"$folder/log/database.log" 2>&1
    mariadbd --no-defaults --user=root --datadir="$folder/database" --socket="$folder/run/database.sock" \
        --pid-file="$folder/run/mariadbd.pid" --skip-networking --innodb-buffer-pool-size=64M \
        --innodb-log-file-size=16M >>"$folder/log/database.log" 2>&1 </dev/null &
    wait_for test -S "$folder/run/database.sock"
    export SLURM_CONF=$folder/etc/slurm.conf
    MYSQL_UNIX_PORT=$folder/run/database.sock slurmdbd
    wait_for sacctmgr --noheader list cluster
    slurmctld -c 2>>"$folder/log/start.log"
    slurmd 2>>"$folder/log/start.log"
    wait_for node_is_idle
}

case $action in
start) start ;;
restart-controller)
    export SLURM_CONF=$folder/etc/slurm.conf
    end slurmctld
    slurmctld 2>>"$folder/log/start.log"
    wait_for sinfo --noheader
    ;;
stop)
    export SLURM_CONF=$folder/etc/slurm.conf
    scancel --user root 2>>"$folder/log/start.log" || true
    for daemon in slurmctld slurmd slurmdbd mariadbd munged; do end "$daemon"; done
    ;;
*)
    echo "cluster.sh: unknown action '$action'" >&2
    exit 2
    ;;
esac
