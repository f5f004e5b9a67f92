package worker

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/cache/contenthash"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/local"
	"github.com/moby/buildkit/util/progress"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc/metadata"
)

// localSource transfers a client's files through its session. Identifiers and cache keys are BuildKit's own.
type localSource struct {
	source.Source
	worker *Worker
}

func newLocalSource(w *Worker) (source.Source, error) {
	real, err := local.NewSource(local.Opt{})
	return &localSource{real, w}, err
}

func (s *localSource) Resolve(ctx context.Context, id source.Identifier, sessions *session.Manager, v solver.Vertex) (source.SourceInstance, error) {
	real, err := s.Source.Resolve(ctx, id, sessions, v)
	if err != nil {
		return nil, err
	}
	from := id.(*local.LocalIdentifier)
	if _, err := RefusePatterns(from.IncludePatterns, from.ExcludePatterns, from.FollowPaths); err != nil {
		return nil, err
	}
	return &localInstance{real, s.worker, from, sessions}, nil
}

type localInstance struct {
	source.SourceInstance
	worker   *Worker
	id       *local.LocalIdentifier
	sessions *session.Manager
}

// sessionTimeout bounds the wait for the session that a build names.
const sessionTimeout = 5 * time.Second

func (i *localInstance) Snapshot(ctx context.Context, job solver.JobContext) (made cache.ImmutableRef, err error) {
	if directory, ok := i.worker.contexts.served.Load(i.id.SessionID); ok && i.isWhole() {
		return i.worker.contextRef("context:"+identity.NewID(), &contextDir{path: directory.(string), isBorrowed: true}), nil
	}
	if i.id.SessionID != "" {
		waiting, cancel := context.WithTimeout(ctx, sessionTimeout)
		caller, err := i.sessions.Get(waiting, i.id.SessionID, false)
		cancel()
		if err == nil {
			made, err := i.receive(ctx, caller)
			if !errors.As(err, new(filesync.InvalidSessionError)) {
				return made, err
			}
		}
	}
	err = i.sessions.Any(ctx, job.Session(), func(ctx context.Context, _ string, caller session.Caller) error {
		made, err = i.receive(ctx, caller)
		return err
	})
	return made, err
}

// isWhole reports whether nothing is filtered out. FollowPaths do not count, since they only announce reads.
func (i *localInstance) isWhole() bool {
	return len(i.id.IncludePatterns) == 0 && len(i.id.ExcludePatterns) == 0 && !i.id.MetadataOnly
}

func (i *localInstance) receive(ctx context.Context, caller session.Caller) (cache.ImmutableRef, error) {
	key := ""
	// A session without a key cannot be recognised later.
	if shared := caller.SharedKey(); shared != "" {
		key = strings.Join([]string{i.id.Name, i.id.SharedKeyHint, shared}, ":")
		if i.id.MetadataOnly {
			key += ":metadata"
		}
	}
	dir, err := i.worker.contexts.take(key)
	if err != nil {
		return nil, err
	}
	origin := i.worker.originOf(dir)
	sums, err := contenthash.GetCacheContext(ctx, origin)
	if err == nil {
		bounded, count := i.worker.limits.Context.bound(ctx, dir.path)
		defer count.cut(nil)
		options := fsutil.ReceiveOpt{
			NotifyHashed: sums.HandleChange, ContentHasher: contenthash.NewFromStat, ProgressCb: count.received(transferring(ctx, i.id.Name)),
			Differ: i.id.Differ, Filter: count.admits,
		}
		if i.id.MetadataOnly {
			options.MetadataOnly = func(string, *fstypes.Stat) bool { return false }
		}
		err = receiveFiles(bounded, caller, map[string][]string{
			"dir-name": {i.id.Name}, "include-patterns": i.id.IncludePatterns, "exclude-patterns": i.id.ExcludePatterns, "followpaths": i.id.FollowPaths,
		}, dir.path, options)
		if count.failure() != nil {
			err = count.failure()
		}
	}
	if err == nil {
		err = contenthash.SetCacheContext(ctx, origin, sums)
	}
	if err != nil {
		err = errors.Join(err, dir.remove())
		// fsutil leaves a file open that did not fit, which keeps its space until it is collected.
		runtime.GC()
		return nil, err
	}
	return i.worker.contextRef("context:"+identity.NewID(), dir), nil
}

// transfer counts what a client's session sends into a directory, and cuts it when a limit is exceeded or an entry could be
// written outside the directory.
type transfer struct {
	limits    ContextLimits
	directory string
	cut       context.CancelCauseFunc

	mu      sync.Mutex
	bytes   int64
	entries int
	// The last path counted.
	last string
	// The last directory known to be one, without links on the way.
	parent string
	err    error
}

// bound returns a context that ends when the transfer fails, and a transfer that enforces the limits.
func (l ContextLimits) bound(ctx context.Context, directory string) (context.Context, *transfer) {
	ctx, cut := context.WithCancelCause(ctx)
	return ctx, &transfer{limits: l, directory: directory, parent: ".", cut: cut}
}

// admits filters out files that a remote client must not create here. It is called repeatedly for one path, and in
// between for deleted paths without their Stat.
func (t *transfer) admits(path string, stat *fstypes.Stat) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if path == "." {
		// fsutil would put the entry in the place of the directory, and later ones where a link leads.
		t.fail(errors.New("the client's session sent an entry for the directory itself"))
		return false
	}
	mode := os.FileMode(stat.Mode)
	if stat.Path != "" && path != t.last {
		t.last = path
		t.entries++
		t.bytes += max(0, stat.Size)
		t.check(t.bytes)
		if err := t.look(path, stat); err != nil {
			t.fail(err)
		}
	}
	if mode&os.ModeSymlink != 0 {
		stat.Xattrs = nil // fsutil would set them on the link's target.
	}
	return mode&os.ModeDevice == 0 && t.err == nil
}

// look returns an error for an entry that fsutil would write outside the directory.
func (t *transfer) look(path string, stat *fstypes.Stat) error {
	mode := os.FileMode(stat.Mode)
	// fsutil's order check takes an entry with ModeDir and another type for a directory, but its writer creates something
	// else.
	if !slices.Contains(typesOfFiles, mode.Type()) {
		return fmt.Errorf("the client's session sent %q with the mode %s", path, mode)
	}
	if err := t.enter(filepath.Dir(path)); err != nil {
		return err
	}
	if mode&os.ModeDevice != 0 {
		return os.RemoveAll(filepath.Join(t.directory, path)) // An entry of an earlier transfer would stay in its place.
	}
	if stat.Linkname == "" || mode&os.ModeSymlink != 0 {
		return nil
	}
	if err := t.enter(filepath.Dir(stat.Linkname)); err != nil {
		return err
	}
	target, err := os.Lstat(filepath.Join(t.directory, stat.Linkname))
	if err == nil && !target.Mode().IsRegular() {
		err = fmt.Errorf("the client's session sent a hard link %q to %q, which is no regular file", path, stat.Linkname)
	}
	return err
}

// typesOfFiles are the types that a client's files may have. Devices are not created.
var typesOfFiles = []os.FileMode{0, os.ModeDir, os.ModeSymlink, os.ModeNamedPipe, os.ModeDevice, os.ModeDevice | os.ModeCharDevice}

// enter fails unless a directory of the transfer is reached without links, which fsutil would follow.
func (t *transfer) enter(directory string) error {
	if directory == t.parent {
		return nil
	}
	at := t.directory
	for part := range strings.SplitSeq(directory, "/") {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("the client's session sent files of %q, which is no directory", directory)
		}
	}
	t.parent = directory
	return nil
}

// received also counts bytes, since more may arrive than announced.
func (t *transfer) received(tell func(int, bool)) func(int, bool) {
	return func(bytes int, isLast bool) {
		t.mu.Lock()
		t.check(int64(bytes))
		t.mu.Unlock()
		tell(bytes, isLast)
	}
}

func (t *transfer) check(bytes int64) {
	if err := t.limits.exceeded(theContext, bytes, t.entries); err != nil {
		t.fail(err)
	}
}

// fail cuts the transfer, with the first error.
func (t *transfer) fail(err error) {
	if t.err == nil {
		t.err = err
		t.cut(err)
	}
}

func (t *transfer) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// receiveFiles is BuildKit's FSSync but for the check of the stream.
func receiveFiles(ctx context.Context, caller session.Caller, wanted map[string][]string, directory string, options fsutil.ReceiveOpt) error {
	if !caller.Supports(session.MethodURL(filesync.FileSync_ServiceDesc.ServiceName, "diffcopy")) {
		return errors.New("no local sources enabled")
	}
	ctx, cancel := context.WithCancel(caller.Context(ctx))
	defer cancel()
	stream, err := filesync.NewFileSyncClient(caller.Conn()).DiffCopy(metadata.NewOutgoingContext(ctx, headersOf(wanted)))
	if err != nil {
		return err
	}
	if err := fsutil.Receive(stream.Context(), &endingOnce{Stream: stream}, directory, options); err != nil {
		return err
	}
	return stream.CloseSend()
}

// headersOf encodes texts as clients of BuildKit expect them.
func headersOf(values map[string][]string) metadata.MD {
	headers := metadata.MD{}
	for key, texts := range values {
		isEncoded := slices.ContainsFunc(texts, func(text string) bool {
			return strings.ContainsFunc(text, func(each rune) bool { return each > unicode.MaxASCII })
		})
		for _, text := range texts {
			if isEncoded {
				text = url.QueryEscape(text)
			}
			headers.Append(key, text)
		}
		if isEncoded {
			headers.Set(key+"-encoded", "1")
		}
	}
	return headers
}

// endingOnce refuses entries after their end, over which fsutil panics where nothing recovers.
type endingOnce struct {
	fsutil.Stream
	hasEnded bool
}

func (e *endingOnce) RecvMsg(message any) error {
	if err := e.Stream.RecvMsg(message); err != nil {
		return err
	}
	packet, ok := message.(*fstypes.Packet)
	if !ok || packet.Type != fstypes.PACKET_STAT {
		return nil
	}
	if e.hasEnded {
		return errors.New("the client's session sent entries after their end")
	}
	e.hasEnded = packet.Stat == nil
	return nil
}

// transferring reports progress in BuildKit's words.
func transferring(ctx context.Context, name string) func(int, bool) {
	writer, _, _ := progress.NewFromContext(ctx)
	began := time.Now()
	var told time.Time
	return func(bytes int, isLast bool) {
		if !isLast && time.Since(told) < 100*time.Millisecond {
			return
		}
		told = time.Now()
		status := progress.Status{Started: &began, Action: "transferring", Current: bytes}
		if isLast {
			status.Completed = &told
		}
		writer.Write("transferring "+name+":", status)
		if isLast {
			writer.Close()
		}
	}
}

// ParseSource converts a source operation to an identifier.
func (w *Worker) ParseSource(op *pb.SourceOp, platform *pb.Platform) (source.Identifier, error) {
	return w.sources.Identifier(&pb.Op_Source{Source: op}, platform)
}
