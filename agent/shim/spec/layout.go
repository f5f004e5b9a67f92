package shimspec

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// Layout locates the files of one instance of sockerless: those that must survive
// a reboot under StateDir, sockets and namespaces under RunDir.
type Layout struct {
	StateDir string // absolute
	RunDir   string // absolute and short: sockets' paths are limited to 107 bytes
}

// Container returns the paths of one container. id has 64 hex digits.
func (l Layout) Container(id string) ContainerPaths {
	return ContainerPaths{
		Dir: filepath.Join(l.StateDir, "containers", id),
		Run: filepath.Join(l.RunDir, "c", id[:16]),
	}
}

// Tag names the instance in things outside its directories: 8 hex digits of the
// SHA-256 of its state directory's path.
func (l Layout) Tag() string {
	sum := sha256.Sum256([]byte(l.StateDir))
	return hex.EncodeToString(sum[:4])
}

// Cgroup is a container's cgroup below the root of cgroups, unless its user
// chooses another place.
func (l Layout) Cgroup(id string) string { return "/sockerless/" + l.Tag() + "-" + id }

// HostSocket serves HostService.
func (l Layout) HostSocket() string { return filepath.Join(l.RunDir, "host.sock") }

// StoredSocket serves AgentService for stopped containers.
func (l Layout) StoredSocket() string { return filepath.Join(l.RunDir, "stored.sock") }

// HandOverSocket is where the host process accepts clients' connections.
func (l Layout) HandOverSocket() string { return filepath.Join(l.RunDir, "hand.sock") }

// RuntimeRoot is the OCI runtime's --root.
func (l Layout) RuntimeRoot() string { return filepath.Join(l.RunDir, "runc") }

// NetworkNamespaces is where the containers' network namespaces are bound.
func (l Layout) NetworkNamespaces() string { return filepath.Join(l.RunDir, "netns") }

// NetworkNamespace is where a container's network namespace is bound.
func (l Layout) NetworkNamespace(id string) string {
	return filepath.Join(l.NetworkNamespaces(), id[:12])
}

// ContainerPaths are the files of one container.
type ContainerPaths struct {
	Dir string // S/containers/<id>: survives a reboot
	Run string // R/c/<first 16 hex>: sockets and what is true while it runs
}

// Spec is shim.json, written by the host process, read by the shim.
func (p ContainerPaths) Spec() string { return filepath.Join(p.Dir, "shim.json") }

// ExitRecord is exit.json, written by the shim, read by the host process.
func (p ContainerPaths) ExitRecord() string { return filepath.Join(p.Dir, "exit.json") }

// BegunRecord is begun.json, written by the shim, read by the host process.
func (p ContainerPaths) BegunRecord() string { return filepath.Join(p.Dir, "begun.json") }

// Bundle is the OCI bundle.
func (p ContainerPaths) Bundle() string { return filepath.Join(p.Dir, "bundle") }

// Config is the OCI runtime configuration.
func (p ContainerPaths) Config() string { return filepath.Join(p.Dir, "bundle", "config.json") }

// Nested is the output of the OCI runtime's hook.
func (p ContainerPaths) Nested() string { return filepath.Join(p.Dir, "bundle", "nested.json") }

// Upper is the overlay's writable layer.
func (p ContainerPaths) Upper() string { return filepath.Join(p.Dir, "upper") }

// Work is the overlay's work directory.
func (p ContainerPaths) Work() string { return filepath.Join(p.Dir, "work") }

// WrittenToImages holds changes to mounted images.
func (p ContainerPaths) WrittenToImages() string { return filepath.Join(p.Dir, "images") }

// Merged is where the overlay is mounted.
func (p ContainerPaths) Merged() string { return filepath.Join(p.Dir, "merged") }

// Log holds the log files.
func (p ContainerPaths) Log() string { return filepath.Join(p.Dir, "log") }

// Files holds managed files (resolv.conf, hosts, hostname).
func (p ContainerPaths) Files() string { return filepath.Join(p.Dir, "files") }

// AgentSocket is the shim's socket.
func (p ContainerPaths) AgentSocket() string { return filepath.Join(p.Run, "agent.sock") }

// HandOverSocket is where the shim accepts clients' connections.
func (p ContainerPaths) HandOverSocket() string { return filepath.Join(p.Run, "hand.sock") }

// ReadyRecord is ready.json, written by the shim, read by the host process.
func (p ContainerPaths) ReadyRecord() string { return filepath.Join(p.Run, "ready.json") }

// SharedMemory is the mount point of a /dev/shm that containers share.
func (p ContainerPaths) SharedMemory() string { return filepath.Join(p.Run, "shm") }

// Secrets is the mount point of the memory file system with a start's secrets.
func (p ContainerPaths) Secrets() string { return filepath.Join(p.Run, "secrets") }
