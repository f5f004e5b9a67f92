package containerinit

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/capability"
	"github.com/sockerless/sockerless/agent/core/environment"
	"github.com/sockerless/sockerless/agent/core/identity"
	"github.com/sockerless/sockerless/agent/core/seccomp"
	"github.com/sockerless/sockerless/agent/init/setpriv"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	defaultUmask  = 0o022
	oomScoreRaise = 100
)

// programDefaults are what an exec inherits from the main process.
type programDefaults struct {
	env             []string
	dir             string
	user            string
	groups          []string
	capabilities    capability.Set
	noNewPrivileges bool
	filter          *seccomp.Filter
	umask           uint32
	limits          []setpriv.Limit
}

// mainDefaults parses the main process's specification.
func (l *launcher) mainDefaults(spec *agentv1.ProcessSpec) (*programDefaults, error) {
	wanted, err := capability.Parse(spec.Capabilities)
	if err != nil {
		return nil, err
	}
	// Capabilities that Docker grants by default may be missing, as Hello
	// reports. Those requested by name may not; all are those that there are.
	if missing := wanted &^ l.powers.bounding &^ capability.DockerDefault; missing != 0 && !spec.Privileged {
		return nil, fmt.Errorf("the platform does not grant %s", strings.Join(missing.Names(), ", "))
	}
	d := &programDefaults{
		env:             environment.Overlay(l.inherit, spec.Env),
		dir:             spec.WorkingDir,
		user:            spec.User,
		groups:          spec.AdditionalGroups,
		capabilities:    wanted & l.powers.bounding,
		noNewPrivileges: spec.NoNewPrivileges,
		umask:           spec.Umask,
	}
	if d.dir == "" {
		d.dir = "/"
	}
	if d.limits, err = limitsOf(spec.ResourceLimits); err != nil {
		return nil, err
	}
	if d.filter, err = filterOf(spec); err != nil {
		return nil, err
	}
	return d, nil
}

// filterOf compiles the profile for this kernel; nil: none.
func filterOf(spec *agentv1.ProcessSpec) (*seccomp.Filter, error) {
	if spec.Seccomp == nil {
		return nil, nil
	}
	if !spec.NoNewPrivileges {
		return nil, errors.New("a seccomp profile needs no_new_privileges: without it only CAP_SYS_ADMIN may load one")
	}
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return nil, fmt.Errorf("ask for the kernel's release: %w", err)
	}
	return seccomp.Compile(spec.Seccomp, runtime.GOARCH, unix.ByteSliceToString(kernel.Release[:]))
}

// program combines a process specification with the defaults.
func (d *programDefaults) program(spec *agentv1.ProcessSpec, own *powers) (*setpriv.Spec, error) {
	program := &setpriv.Spec{
		Args:            spec.Args,
		Env:             environment.Overlay(d.env, spec.Env),
		Dir:             d.dir,
		Terminal:        spec.Tty,
		Capabilities:    d.capabilities,
		NoNewPrivileges: d.noNewPrivileges || spec.NoNewPrivileges,
		Filter:          d.filter,
		Umask:           defaultUmask,
		Limits:          d.limits,
		OOMScoreRaise:   oomScoreRaise,
	}
	if spec.WorkingDir != "" {
		program.Dir = spec.WorkingDir
	}
	if !strings.HasPrefix(program.Dir, "/") {
		return nil, fmt.Errorf("the working directory %q is not absolute", program.Dir)
	}
	if d.umask != 0 {
		program.Umask = d.umask
	}
	if spec.Umask != 0 {
		program.Umask = spec.Umask
	}
	if spec.Privileged {
		program.Capabilities = own.bounding
	}
	for _, text := range append(append([]string(nil), program.Args...), program.Env...) {
		if strings.IndexByte(text, 0) >= 0 {
			return nil, errors.New("an argument or variable holds a NUL byte")
		}
	}
	home, err := d.become(program, spec, own)
	if err != nil {
		return nil, err
	}
	program.Env = environment.WithDefault(program.Env, "HOME", home)
	if spec.Tty {
		program.Env = environment.WithDefault(program.Env, "TERM", "xterm")
	}
	return program, nil
}

// become sets the program's user, as far as the agent can, and returns its home.
func (d *programDefaults) become(program *setpriv.Spec, spec *agentv1.ProcessSpec, own *powers) (home string, err error) {
	name, groups := spec.User, spec.AdditionalGroups
	if name == "" {
		name, groups = d.user, d.groups
	}
	user := identity.Identity{UID: own.uid, GID: own.gid, Home: "/"}
	if name != "" || own.canSwitchUsers() {
		root, err := openRoot()
		if err != nil {
			return "", err
		}
		defer root.Close()
		if user, err = identity.ResolveIn(root, name, groups); err != nil {
			return "", err
		}
	}
	switch {
	case own.canSwitchUsers():
		program.SwitchUser = true
		program.UID, program.GID, program.Groups = user.UID, user.GID, user.AdditionalGIDs
	case own.is(user):
		program.UID, program.GID = own.uid, own.gid
	default:
		return "", fmt.Errorf("cannot run as %q: the agent runs as user %d and cannot switch users", name, own.uid)
	}
	if program.Bound = own.bounding&^program.Capabilities != 0; program.Bound && !own.effective.Has(unix.CAP_SETPCAP) {
		return "", fmt.Errorf("cannot withhold %s: the agent may not take capabilities away",
			strings.Join((own.bounding&^program.Capabilities).Names(), ", "))
	}
	return user.Home, nil
}

// openRoot opens the container's root directory, which is the agent's own.
func openRoot() (*os.File, error) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	return os.NewFile(uintptr(fd), "/"), nil
}

// platformPrefixes begin the names of variables by which a cloud gives a process
// its identity and metadata: the user's process gets them.
var platformPrefixes = []string{"AWS_", "ECS_", "CONTAINER_APP_", "IDENTITY_", "MSI_"}

// platformVariables selects them from the agent's own environment.
func platformVariables(environ []string) []string {
	var kept []string
	for _, entry := range environ {
		for _, prefix := range platformPrefixes {
			if strings.HasPrefix(entry, prefix) {
				kept = append(kept, entry)
			}
		}
	}
	return kept
}
