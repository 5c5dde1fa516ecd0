#!/usr/bin/env bash
# Start a real SLURM with one node, this machine, from a folder of its own: no root's configuration is touched.
#   eval "$(tests/slurm/start.sh FOLDER)"     then sbatch, squeue and submitit see it
#   tests/slurm/start.sh FOLDER stop
# Needs Debian's slurm-wlm and munge, and root (slurmd starts jobs as their user).
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
mkdir -p "$1"
folder="$(cd "$1" && pwd)"
export SLURM_CONF="$folder/slurm.conf"

stop() { for daemon in slurmd slurmctld munged; do [ ! -f "$folder/$daemon.pid" ] || kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true; done; }
if [ "${2:-}" = stop ]; then stop; exit 0; fi

for tool in munged slurmctld slurmd sbatch; do command -v $tool >/dev/null || { echo "$tool is not installed: apt-get install slurm-wlm munge" >&2; exit 1; }; done
node="$(hostname -s)"
mkdir -p "$folder/state" "$folder/spool"
chmod 700 "$folder"
[ -f "$folder/munge.key" ] || { head -c 1024 /dev/urandom > "$folder/munge.key"; chmod 400 "$folder/munge.key"; }
cat > "$SLURM_CONF" <<END
ClusterName=onenode
SlurmctldHost=$node(127.0.0.1)
SlurmUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=3
SlurmctldPort=${SLURM_PORT:-16817}
SlurmdPort=$((${SLURM_PORT:-16817} + 1))
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" >&2
slurmctld -c -f "$SLURM_CONF" >&2
slurmd -c -f "$SLURM_CONF" >&2
for _ in $(seq 50); do sinfo -h -o %T 2>/dev/null | grep -q idle && { echo "export SLURM_CONF='$SLURM_CONF'"; exit 0; }; sleep .2; done
echo "SLURM did not start: see $folder/slurmctld.log and $folder/slurmd.log" >&2
stop
exit 1
