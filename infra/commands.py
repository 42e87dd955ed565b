"""The command lines that a learner pastes: each is one line of POSIX shell that works as it stands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from infra import versions
from infra.service_env import HTTP_PORT, LEDGER_PORT, METRICS_PORT, TRACER_PORT

DEBUGINFO_FOLDER = "/app/debuginfo"
FIELDS = "proc.comm,operation,size,ustack.symbols"
TRACE_SECONDS = 30

_CPU = "$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')"
# sudo has a PATH of its own.
_TOOL = 'sudo "$(command -v memleak-lab)"'
# The pods of the Deployment that leaks: those of its peers have the same name and another instance.
LEAKING = "app.kubernetes.io/name=leaker,app.kubernetes.io/instance=leaker"
# From a pod or container that shares the node's processes: the leaker, by its pid or by its container's id, which the
# kernel has in the cgroup of each of its processes; and the C library that it has mapped.
_FIND = (
    "pid=${LEAKER_PID:-$(for p in $(pgrep -f '^python -m service$'); do "
    '! grep -q "${1:?no container id}" /proc/$p/cgroup || echo $p; done)} && '
    '{ [ "$pid" ] || { echo "no leaker runs on this node" >&2; exit 1; }; } && '
    "lib=$(awk '/libc\\.so\\.6$/ {print $6; exit}' /proc/$pid/maps)"
)
_BPFTRACE = (
    "uprobe:LIBC:malloc { @wanted[tid] = arg0; } "
    "uretprobe:LIBC:malloc /@wanted[tid]/ "
    "{ @bytes[ustack] = sum(@wanted[tid]); @calls[ustack] = count(); delete(@wanted[tid]); } "
    "END { clear(@wanted); }"
)


@dataclass(frozen=True)
class Kubectl:
    """Commands against one namespace of one cluster. ``client`` is kubectl, or oc on OpenShift."""

    client: str
    context: str
    namespace: str

    @property
    def base(self) -> str:
        """The client with its context."""
        return f"{self.client} --context {shlex.quote(self.context)}"

    @property
    def inside(self) -> str:
        """The client with its context and namespace."""
        return f"{self.base} --namespace {shlex.quote(self.namespace)}"

    def forward(self, what: str, local_port: int, remote_port: int) -> str:
        """Bring a port of the cluster to this machine's loopback."""
        return f"{self.inside} port-forward {what} {local_port}:{remote_port}"

    def on_node(self, script: str, toolbox: str) -> str:
        """Run a script on the leaker's node: a privileged pod that shares its processes and has its root at /host.

        The script's first argument is the id of the leaker's container.
        """
        node, container = self._leaking(".spec.nodeName"), self._leaking(".status.containerStatuses[0].containerID")
        # `oc debug` has neither --stdin nor --profile: its pods are interactive and privileged by themselves.
        options = "--tty --quiet" if self.client == "oc" else "--stdin --tty --quiet --profile=sysadmin"
        return (
            f'{self.base} debug "node/$({node})" {options} '
            f'--image={toolbox} -- sh -c {shlex.quote(script)} sh "$({container} | cut -d/ -f3)"'
        )

    def gadget(self, image: str, *, symbols: bool) -> str:
        """Run the gadget on the leaker's pod, with the symbols of its shared object."""
        run = (
            f"{self.client} gadget run {image} --context {shlex.quote(self.context)} "
            f"--namespace {shlex.quote(self.namespace)} --selector {LEAKING} --containername leaker"
        )
        if not symbols:
            return run
        copy = f"{self.inside} exec deployment/leaker -- tar -C {DEBUGINFO_FOLDER} -chf - ."
        return _with_symbols(copy, run, f"k8s.podName,{FIELDS}")

    def verify(self) -> str:
        """Hold ANSWER, a report file or a function's name, against the leaker's ledger."""
        return self._while_forwarded((LEDGER_PORT,), 'memleak-lab verify "${ANSWER:-report.json}"')

    def learn(self) -> str:
        """The learner's tasks on the leaker's pod, whose node this machine is or, as with kind, runs."""
        pod = f"{self.namespace}/$({self._leaking('.metadata.name')})/leaker"
        return self._while_forwarded((HTTP_PORT, METRICS_PORT, LEDGER_PORT), f'{_TOOL} learn --pod "{pod}"')

    def _while_forwarded(self, ports: tuple[int, ...], command: str) -> str:
        """Run a command while the leaker's ports are here. The exit status is the command's."""
        pairs = " ".join(f"{port}:{port}" for port in ports)
        # zsh lets nobody set a variable named status.
        return (
            f"{self.inside} port-forward deployment/leaker {pairs} >/dev/null & sleep 2; "
            f"{command}; code=$?; kill $!; (exit $code)"
        )

    def _leaking(self, field: str) -> str:
        """A command that prints a field of the newest pod that leaks and runs."""
        return (
            f"{self.inside} get pods --selector {LEAKING} --field-selector status.phase=Running "
            f"--sort-by .metadata.creationTimestamp --output jsonpath='{{.items[-1:]{field}}}'"
        )


def docker_gadget(image: str, container: str) -> str:
    """Run the gadget on the leaker's container, with the symbols of its shared object."""
    copy = f"docker exec {container} tar -C {DEBUGINFO_FOLDER} -chf - ."
    return _with_symbols(copy, f"sudo ig run {image} --runtimes docker --containername {container}", FIELDS)


def docker_on_host(script: str, toolbox: str, container: str) -> str:
    """Run a script in a privileged container that shares this machine's processes."""
    return (
        "docker run --rm --interactive --tty --privileged --pid=host "
        f'--env LEAKER_PID="$({_pid(container)})" '
        f"--volume /lib/modules:/lib/modules:ro --volume /usr/src:/usr/src:ro {toolbox} sh -c {shlex.quote(script)}"
    )


def docker_tracer(container: str) -> str:
    """Trace the leaker for Prometheus, at the address of this machine that only containers reach."""
    bridge = "docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}'"
    return f'{_TOOL} trace --container {container} --listen "$({bridge}):{TRACER_PORT}"'


def docker_verify(container: str) -> str:
    """Hold ANSWER against the ledger, which listens inside the container only: from its network namespace."""
    return f'{_inside_network(container)} verify "${{ANSWER:-report.json}}"'


def docker_learn(container: str) -> str:
    """The learner's tasks on the leaker's container, from its network namespace: there is the ledger."""
    return f"{_inside_network(container)} learn --container {container}"


def install_kubectl_gadget() -> str:
    """Put the client of the declared version on the PATH."""
    return _install("kubectl-gadget")


def install_ig() -> str:
    """Put Inspektor Gadget's command for one machine on the PATH."""
    return _install("ig")


def bpftrace_script() -> str:
    """Bytes and calls by stack, of thirty seconds of malloc, with bpftrace from Debian.

    It runs in the leaker's own pid namespace, with that namespace's /proc: from another one that is not the machine's
    first, such as that of a kind node, bpftrace finds no pid for a stack and prints bare addresses.
    """
    program = f'"$(echo {shlex.quote(_BPFTRACE)} | sed "s#LIBC#/proc/$own/root$lib#g")"'
    trace = f'mount -t proc proc /proc && exec timeout --signal=INT {TRACE_SECONDS} bpftrace -p "$0" -e "$1"'
    own = "own=$(awk '/^NSpid:/ {print $NF}' /proc/$pid/status)"
    return (
        f"{_packages('bpftrace')} && {_tracefs()} && {_FIND} && {own} && "
        f'nsenter --target "$pid" --pid unshare --mount sh -c {shlex.quote(trace)} "$own" {program}'
    )


def bcc_script(*, host: str) -> str:
    """Outstanding allocations by stack, with BCC's memleak from Debian.

    ``host`` is where the node's root is mounted; empty: its kernel's files are mounted under their own names. BCC
    compiles at run time, against the headers of the running kernel or those that the kernel carries.
    """
    headers = f"{link_kernel_files(host)} && " if host else ""
    return (
        f"{_packages('bpfcc-tools')} && {headers}{_tracefs()} && {_FIND} && "
        f'memleak-bpfcc -p "$pid" -O "/proc/$pid/root$lib" --top 5 {TRACE_SECONDS} 1'
    )


def link_kernel_files(host: str, root: str = "") -> str:
    """Give the node's modules and headers, under ``host``, their own names under ``root``.

    The images of Debian have a folder /usr/src: a link to a folder in the place of one ends up within it.
    """
    return (
        f"ln -sfn {host}/lib/modules {root}/lib/modules && "
        f"mkdir -p {root}/usr/src && ln -sfn {host}/usr/src/* {root}/usr/src/"
    )


def _pid(container: str) -> str:
    return f"docker inspect --format '{{{{.State.Pid}}}}' {container}"


def _inside_network(container: str) -> str:
    return f'sudo nsenter --target "$({_pid(container)})" --net "$(command -v memleak-lab)"'


def _packages(tool: str) -> str:
    return (
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && "
        f"apt-get install -qq --yes --no-install-recommends {tool} procps >/dev/null"
    )


def _tracefs() -> str:
    return "{ mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing; }"


def _with_symbols(copy: str, run: str, fields: str) -> str:
    return (
        f'cache=$(mktemp -d) && {copy} | tar -C "$cache" -xf - && {run} --collect-ustack --collect-build-id '
        f'--symbolizers symtab,debuginfod-cache --debuginfod-cache-path "$cache" --fields {fields}'
    )


def _install(program: str) -> str:
    """The release's checksums are those of its archives, and `make pins` has noted theirs."""
    folder, sums = versions.GADGET_CHECKSUMS.rsplit("/", 1)
    known = versions.DOWNLOAD_SUMS.get(versions.GADGET_CHECKSUMS)
    check = f"echo '{known}  {sums}' | sha256sum --check --quiet && " if known else ""
    return (
        f'(cd "$(mktemp -d)" && archive={program}-linux-{_CPU}-v{versions.GADGET_VERSION}.tar.gz && '
        f'curl -fsSL --remote-name-all {folder}/{sums} "{folder}/$archive" && {check}'
        f'grep " [*]\\{{0,1\\}}$archive$" {sums} | sha256sum --check --quiet && '
        f'sudo tar -C /usr/local/bin -xzf "$archive" {program})'
    )
