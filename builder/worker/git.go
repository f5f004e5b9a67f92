package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/snapshot"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/git"
	"github.com/moby/buildkit/util/sshutil"
	"golang.org/x/sync/semaphore"
)

// gitSource is BuildKit's own, using this machine's git. A checkout becomes a context, with the same limits.
type gitSource struct {
	*git.Source
	limits  ContextLimits
	silence time.Duration
	turns   *gitTurns
}

func newGitSource(w *Worker) (*gitSource, error) {
	if err := w.wrapGit(); err != nil {
		return nil, err
	}
	real, err := git.NewSource(git.Opt{CacheAccessor: &checkouts{&manager{Worker: w}}})
	turns := &gitTurns{remotes: slots{size: 1}, clients: slots{size: maxClientGits}, all: semaphore.NewWeighted(maxGits)}
	return &gitSource{real, w.limits.Context, gitSilence, turns}, err
}

func (s *gitSource) Resolve(ctx context.Context, id source.Identifier, sessions *session.Manager, v solver.Vertex) (source.SourceInstance, error) {
	from, ok := id.(*git.GitIdentifier)
	if !ok {
		return nil, fmt.Errorf("invalid git identifier %T", id)
	}
	if err := allowGit(from); err != nil {
		return nil, err
	}
	made, err := s.Source.Resolve(ctx, id, sessions, v)
	if err != nil {
		return nil, err
	}
	return &gitInstance{made, s, from.Remote}, nil
}

const (
	// maxGits bounds how many repositories are fetched at once, and maxClientGits those of a client's builds.
	maxGits       = 3
	maxClientGits = 2
	// gitSilence bounds the time in which nothing comes of a repository. A server counts a large one's objects for minutes.
	gitSilence = 5 * time.Minute
)

// gitTurns bound how many repositories are fetched at once.
type gitTurns struct {
	// BuildKit fetches a remote for one build at a time. Others wait here, where they may be cancelled and take no turn.
	remotes slots
	clients slots
	all     *semaphore.Weighted
}

// take waits for a turn, and returns a function that gives it back.
func (t *gitTurns) take(ctx context.Context, remote string, job solver.JobContext) (func(), error) {
	leaveRemote, err := t.remotes.take(ctx, remote)
	if err != nil {
		return nil, err
	}
	leaveClient := func() {}
	if job != nil {
		if leaveClient, err = t.clients.takeOf(ctx, job.Session()); err != nil {
			leaveRemote()
			return nil, err
		}
	}
	if t.all.Acquire(ctx, 1) != nil {
		leaveClient()
		leaveRemote()
		return nil, context.Cause(ctx)
	}
	return func() {
		t.all.Release(1)
		leaveClient()
		leaveRemote()
	}, nil
}

// begin waits for a turn, and returns a context that ends when git must be stopped, with a function that ends the turn
// and replaces the resulting error by the reason.
func (s *gitSource) begin(ctx context.Context, remote string, job solver.JobContext) (context.Context, func(error) error, error) {
	leave, err := s.turns.take(ctx, remote, job)
	if err != nil {
		return nil, nil, err
	}
	watched, end := watchCheckouts(ctx, s.limits, s.silence)
	return watched, func(err error) error {
		defer leave()
		return end(err)
	}, nil
}

const (
	// maxPrintingGit bounds, in KiB, the memory of a git that prints a commit, a tag or a list of references: BuildKit reads
	// all of it, and the server decides how much there is.
	maxPrintingGit = 64 << 10
	// maxGitMemory bounds, in KiB, the memory of any git: 200 bytes for each object of a history of 1,500,000.
	maxGitMemory = 384 << 10
)

// gitConfig makes git stream large files, and not begin what outlives it. Its other limits are for each thread.
const gitConfig = `[core]
	bigFileThreshold = 1m
	deltaBaseCacheLimit = 16m
[pack]
	threads = 2
	windowMemory = 32m
	deltaCacheSize = 32m
[fetch]
	unpackLimit = 1
[gc]
	auto = 0
[maintenance]
	auto = false
`

// maxGitStderr bounds, in bytes, how much of git's standard error BuildKit keeps: a server can make git print anything.
const maxGitStderr = 256 << 10

// gitScript wraps git. A background reader, which ends with the last writer, drops excess standard error; git remains
// the process that BuildKit has started, which the kernel kills with this one.
var gitScript = fmt.Sprintf(`#!/bin/sh
said=${0%%/*}/$$
PATH=${PATH#*:}
case " $* " in *' cat-file '* | *' ls-remote '*) ulimit -d %d ;; *) ulimit -d %d ;; esac
export GIT_CONFIG_GLOBAL="${0%%/*}/config"
rm -f "$said" && mkfifo -m 600 "$said" && exec 3<>"$said" 4<"$said" 5>"$said" 3>&- || exit 1
rm -f "$said"
{ head -c %d; cat >/dev/null; } <&4 4<&- 5>&- >&2 &
exec git "$@" 2>&5 4<&- 5>&-
`, maxPrintingGit, maxGitMemory, maxGitStderr)

// wrapGit puts gitScript first in this process's PATH, where BuildKit finds git.
func (w *Worker) wrapGit() error {
	if _, err := exec.LookPath("git"); err != nil {
		return nil // allowGit reports it
	}
	// A killed process may have left its FIFO here.
	if err := errors.Join(os.RemoveAll(w.programs), os.MkdirAll(w.programs, 0o700)); err != nil {
		return err
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(w.programs, "config"), []byte(gitConfig), 0o600),
		os.WriteFile(filepath.Join(w.programs, "git"), []byte(gitScript), 0o700),
	)
	if err != nil {
		return err
	}
	return os.Setenv("PATH", w.programs+string(filepath.ListSeparator)+os.Getenv("PATH"))
}

// ResolveMetadata resolves a reference of a repository.
func (s *gitSource) ResolveMetadata(ctx context.Context, id *git.GitIdentifier, sessions *session.Manager, job solver.JobContext, wanted git.MetadataOpts) (_ *git.Metadata, err error) {
	if err := allowGit(id); err != nil {
		return nil, err
	}
	ctx, end, err := s.begin(ctx, id.Remote, job)
	if err != nil {
		return nil, err
	}
	defer func() { err = end(err) }()
	return s.Source.ResolveMetadata(ctx, id, sessions, job, wanted)
}

// gitInstance waits for a turn of git, and stops it when its output exceeds the limits or does not come.
type gitInstance struct {
	source.SourceInstance
	source *gitSource
	remote string
}

func (i *gitInstance) CacheKey(ctx context.Context, job solver.JobContext, index int) (key, pin string, options solver.CacheOpts, isDone bool, err error) {
	ctx, end, err := i.source.begin(ctx, i.remote, job)
	if err != nil {
		return "", "", nil, false, err
	}
	defer func() { err = end(err) }()
	return i.SourceInstance.CacheKey(ctx, job, index)
}

func (i *gitInstance) Snapshot(ctx context.Context, job solver.JobContext) (_ cache.ImmutableRef, err error) {
	ctx, end, err := i.source.begin(ctx, i.remote, job)
	if err != nil {
		return nil, err
	}
	defer func() { err = end(err) }()
	return i.SourceInstance.Snapshot(ctx, job)
}

// watchPoll is the interval of checks of git's output.
const watchPoll = 500 * time.Millisecond

// watch checks the directories created for a context.
type watch struct {
	limits  ContextLimits
	silence time.Duration
	mu      sync.Mutex
	paths   []string
	// The size of all directories when it changed last.
	bytes   int64
	entries int
	changed time.Time
}

type watchOfContext struct{}

// watchCheckouts returns a context that is cancelled when a directory created for it exceeds the limits or nothing is
// written in time, and a function that stops the check and replaces the resulting error by that reason.
func watchCheckouts(parent context.Context, limits ContextLimits, silence time.Duration) (context.Context, func(error) error) {
	of := &watch{limits: limits, silence: silence, changed: time.Now()}
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, watchOfContext{}, of))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(watchPoll)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if err := of.look(); err != nil {
					cancel(err)
				}
			}
		}
	}()
	return ctx, func(err error) error {
		cancel(nil)
		<-ended
		if cause := context.Cause(ctx); err != nil && parent.Err() == nil && cause != context.Canceled {
			return cause
		}
		return err
	}
}

func (w *watch) add(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paths = append(w.paths, path)
}

func (w *watch) look() error {
	w.mu.Lock()
	paths := slices.Clone(w.paths)
	w.mu.Unlock()
	var bytes int64
	entries := 0
	for _, each := range paths {
		// Files that vanish meanwhile are not counted.
		found, err := w.limits.measure(each, func(error) error { return nil })
		if err != nil {
			return err
		}
		bytes += found.bytes
		entries += found.entries
	}
	if bytes != w.bytes || entries != w.entries {
		w.bytes, w.entries, w.changed = bytes, entries, time.Now()
	}
	if time.Since(w.changed) > w.silence {
		return fmt.Errorf("nothing has come of the git repository for %s", w.silence)
	}
	return nil
}

// measure refuses a directory of git's that exceeds the limits.
func (l ContextLimits) measure(path string, failed func(error) error) (*unpacking, error) {
	count := &unpacking{limits: l, what: "the git repository"}
	return count, filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return failed(err)
		}
		info, err := entry.Info()
		if err != nil {
			return failed(err)
		}
		if !info.Mode().IsRegular() {
			return count.add(0)
		}
		return count.add(info.Size())
	})
}

// allowGit refuses what must not be fetched, before git runs. The proxy refuses where a name or a redirect must not
// lead.
func allowGit(from *git.GitIdentifier) error {
	if from.Bundle != "" || from.CheckoutBundle {
		return errors.New("sockerless: bundles of git repositories are not implemented by the builder")
	}
	if strings.HasPrefix(from.Ref, "-") {
		return fmt.Errorf("invalid git ref %q", from.Ref)
	}
	if _, err := exec.LookPath("git"); err != nil {
		return fmt.Errorf("sockerless: builds of git repositories need the program git on the builder's machine: %w", err)
	}
	host := ""
	if scp, err := sshutil.ParseSCPStyleURL(from.Remote); err == nil {
		host = scp.Host
	} else if parsed, err := url.Parse(from.Remote); err == nil {
		host = parsed.Hostname()
	}
	return refuseMetadataHost(strings.Trim(host, "[]"))
}

// CheckOut fetches a git repository named by a client's `remote`, and returns the directory of its files, valid until
// `done` is called; "" if remote is not a git repository.
func (w *Worker) CheckOut(ctx context.Context, remote string) (directory string, done func() error, err error) {
	reference, isGit, err := dfgitutil.ParseGitRef(remote)
	if !isGit || err != nil {
		return "", nil, nil
	}
	id, err := gitIdentifier(reference)
	if err != nil {
		return "", nil, err
	}
	instance, err := w.git.Resolve(ctx, id, nil, nil)
	if err != nil {
		return "", nil, err
	}
	made, err := instance.Snapshot(ctx, nil)
	if err != nil {
		return "", nil, err
	}
	files := made.(*ref)
	return files.context.path, func() error { return files.Release(context.WithoutCancel(ctx)) }, nil
}

// gitIdentifier converts a reference to BuildKit's; never to a path of this machine.
func gitIdentifier(reference *dfgitutil.GitRef) (*git.GitIdentifier, error) {
	id, err := git.NewGitIdentifier(reference.Remote)
	if err != nil {
		return nil, err
	}
	id.Ref, id.Subdir, id.Checksum, id.MTime = reference.Ref, reference.SubDir, reference.Checksum, reference.MTime
	id.KeepGitDir = reference.KeepGitDir != nil && *reference.KeepGitDir
	id.SkipSubmodules = reference.Submodules != nil && !*reference.Submodules
	id.FetchByCommit = reference.FetchByCommit
	return id, nil
}

// checkouts is BuildKit's cache manager for a source that fills directories of this machine: it creates contexts.
type checkouts struct{ *manager }

func (c *checkouts) New(ctx context.Context, _ cache.ImmutableRef, _ session.Group, _ ...cache.RefOption) (cache.MutableRef, error) {
	dir, err := c.contexts.take("")
	if err != nil {
		return nil, err
	}
	if of, ok := ctx.Value(watchOfContext{}).(*watch); ok {
		of.add(dir.path)
	}
	return &checkout{content{worker: c.Worker, id: "checkout", context: dir}}, nil
}

// checkout is a directory being filled.
type checkout struct{ content }

var _ cache.MutableRef = (*checkout)(nil)

func (c *checkout) Mount(context.Context, bool, session.Group) (snapshot.Mountable, error) {
	return directory(c.context.path), nil
}

func (c *checkout) Release(context.Context) error { return c.context.remove() }

// Commit turns the directory into a context, if it keeps the limits.
func (c *checkout) Commit(context.Context) (cache.ImmutableRef, error) {
	_, err := c.worker.limits.Context.measure(c.context.path, func(err error) error { return err })
	if err != nil {
		return nil, errors.Join(err, c.context.remove())
	}
	return c.worker.contextRef("context:"+identity.NewID(), c.context), nil
}
