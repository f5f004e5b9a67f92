// Package shimspec is the contract between the host process, which prepares a
// container, and the shim, which runs it: the shim's specification
// (shim.json), its readiness message, its exit record, and where files lie.
//
// How a shim is started:
//
//	sockerless-agent shim --spec S/containers/<id>/shim.json
//
// in a session of its own, stdin, stdout and stderr /dev/null, with
//
//	fd 3  the listening agent socket, already bound to Spec.AgentSocket
//	fd 4  the write end of the readiness pipe
//	fd 5  the read end of a pipe that says when shim.json is written
//
// The shim marks them close-on-exec and waits, because it is started while the
// host process still prepares the container: for a byte, or for the pipe's end
// without one, after which it exits. Then it opens the Docker sockets, binds the
// published ports and has the runtime create the container. Then it writes
// Readiness to Spec.ReadyRecord (atomically: a later host process reads it
// there), writes the same JSON as one line to the pipe, and closes the pipe. A
// shim that fails undoes what it did, writes a Readiness with Error, and exits
// with a code other than 0. A pipe that closes without a line means that the shim
// crashed.
//
// How a shim ends: after the main process has exited it writes the exit record
// (atomically), and serves on until SIGTERM, which means that the host process
// releases the container. It then waits, for a bounded time, for calls that need
// the container, ends its watches with `released`, and exits. For slow clients of
// sessions and log readers it stays, without holding anything of the container:
// its socket refuses connections then, and a second SIGTERM ends it. Without
// watchers it leaves by itself some seconds after the exit, but never before
// Start was called: a launch stays adoptable. A shim that gets SIGTERM while the
// main process still runs waits for its exit first: the host process kills
// through the runtime, never through the shim. The host process deletes the OCI
// container.
// With Spec.Keep, if Readiness.Keeps confirms it, the shim does not leave then
// but waits, for a bounded time, for a Start of a later generation: by then the
// host process has mounted its root at Spec.Rootfs, and rewritten config.json and
// shim.json. The shim creates that main process itself, so the runtime does not
// know that the container runs: the host process kills what is in its cgroups.
//
// `docker run --init`: the host process binds the agent's executable over
// /sbin/docker-init and puts `/sbin/docker-init --` before process.args; an
// agent whose argv[0] ends in `docker-init` is that reaping init.
package shimspec

import "time"

// Version of the files described here. A shim refuses a specification of an
// unknown version.
const Version = 1

// FewProcesses is a process limit that the OCI runtime's own threads may reach.
// The runtime sets the limit and then has its library build the seccomp filter;
// with one processor Go starts a thread meanwhile, and exits if it cannot.
const FewProcesses = 16

// File descriptors that a shim inherits.
const (
	ListenerFD  = 3
	ReadinessFD = 4
	SpecifiedFD = 5
)

// Spec is shim.json: everything a shim knows about its container apart from the
// OCI bundle. Paths are absolute.
type Spec struct {
	Version     int    `json:"version"`
	ContainerID string `json:"container_id"` // 64 hex
	Generation  uint64 `json:"generation"`   // start counter, from 1

	Runtime     string `json:"runtime"`      // the OCI runtime's executable
	RuntimeRoot string `json:"runtime_root"` // its --root
	Bundle      string `json:"bundle"`       // directory of config.json
	Rootfs      string `json:"rootfs"`       // the mounted overlay, as root.path in config.json

	// The overlay's parts, to find the container's changes: its writable layer,
	// and the image's layers, top first.
	Upper string   `json:"upper,omitempty"`
	Lower []string `json:"lower,omitempty"`

	AgentSocket string `json:"agent_socket"`
	ReadyRecord string `json:"ready_record"` // Readiness is kept here
	ExitRecord  string `json:"exit_record"`  // ExitRecord is written here
	LogDir      string `json:"log_dir"`      // exists

	// Empty: the machine's own.
	NetworkNamespace string `json:"network_namespace,omitempty"`
	// The generation for which the namespace was created; 0: this one.
	NetworkGeneration uint64 `json:"network_generation,omitempty"`
	// The directory mounted as the container's /dev/shm, which other containers
	// may share. The shim does not use it.
	SharedMemory string `json:"shared_memory,omitempty"`

	// The shim stays, for a bounded time, after the process has ended, for a
	// Start of a later generation: the host process has rewritten the file by
	// then.
	Keep bool `json:"keep,omitempty"`

	// Names of variables that only the main process gets, not execs.
	SecretEnv []string `json:"secret_env,omitempty"`

	TTY         bool         `json:"tty,omitempty"`
	OpenStdin   bool         `json:"open_stdin,omitempty"`
	StdinOnce   bool         `json:"stdin_once,omitempty"`
	ConsoleSize *ConsoleSize `json:"console_size,omitempty"`

	Log           LogSettings     `json:"log"`
	Ports         []PublishedPort `json:"ports,omitempty"`
	DockerSockets []DockerSocket  `json:"docker_sockets,omitempty"`
}

// ConsoleSize is a terminal's size in characters.
type ConsoleSize struct {
	Height uint32 `json:"height"`
	Width  uint32 `json:"width"`
}

// LogSettings bounds what the shim records.
type LogSettings struct {
	Disabled bool   `json:"disabled,omitempty"`
	MaxSize  uint64 `json:"max_size,omitempty"`  // bytes a file; 0: no limit
	MaxFiles uint32 `json:"max_files,omitempty"` // 0 or 1: one file
	// Limit of bytes waiting to be recorded, beyond which output is dropped; nil:
	// the process waits instead.
	BufferSize *uint64 `json:"buffer_size,omitempty"`
}

// PublishedPort is a port that the shim listens on and forwards, with the
// meaning of sockerless.host.v1.PublishedPort.
type PublishedPort struct {
	Protocol      string `json:"protocol"` // "tcp" or "udp"
	HostIP        string `json:"host_ip,omitempty"`
	HostPort      uint32 `json:"host_port,omitempty"`
	HostPortEnd   uint32 `json:"host_port_end,omitempty"`
	ContainerPort uint32 `json:"container_port"`
	ContainerIP   string `json:"container_ip,omitempty"`
}

// BoundPort is a listening socket that a shim holds.
type BoundPort struct {
	Protocol      string `json:"protocol"`
	HostIP        string `json:"host_ip"` // "0.0.0.0", "::" or as asked
	HostPort      uint32 `json:"host_port"`
	ContainerPort uint32 `json:"container_port"`
}

// DockerSocket is a socket on which the shim listens (mode 0660, owner and group
// of Forward if that exists) before it has the container created; the bundle
// binds it into the container.
type DockerSocket struct {
	Listen  string `json:"listen"`  // made by the shim
	Forward string `json:"forward"` // each connection goes to a new one there
}

// Begun is begun.json: a generation's process may have executed its command.
// Without an exit record of the same generation, and without a shim, its exit is
// unknown.
type Begun struct {
	Version    int       `json:"version"`
	Generation uint64    `json:"generation"`
	At         time.Time `json:"at"`
}

// Readiness reports that the container is created, or why not.
type Readiness struct {
	Version    int    `json:"version"`
	Generation uint64 `json:"generation"`
	ShimPID    int    `json:"shim_pid"`
	// PID of the container's init, waiting to execute the command. 0: the runtime
	// found that the command cannot be executed; Start returns that failure.
	PID        int         `json:"pid"`
	BoundPorts []BoundPort `json:"bound_ports,omitempty"`
	// A later generation can reuse the sandbox. False despite Spec.Keep: it has
	// something that only the runtime can set up.
	Keeps bool            `json:"keeps,omitempty"`
	Error *ReadinessError `json:"error,omitempty"`
}

// ReadinessError describes a failed launch.
type ReadinessError struct {
	// A Connect code's name: "resource_exhausted" for a port in use, "internal"
	// for a refusal of the runtime, …
	Code    string `json:"code"`
	Message string `json:"message"`
}
