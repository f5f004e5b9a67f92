// Package worker is a BuildKit worker whose states are images of a backend of sockerless and whose steps are its
// containers. It uses neither a snapshotter nor runc nor mounts of this machine.
package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	nethttp "net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	ctdmetadata "github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage"
	localexporter "github.com/moby/buildkit/exporter/local"
	ociexporter "github.com/moby/buildkit/exporter/oci"
	tarexporter "github.com/moby/buildkit/exporter/tar"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	ctdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/cdidevices"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source"
	srctypes "github.com/moby/buildkit/source/types"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/util/resolver/config"
	bkworker "github.com/moby/buildkit/worker"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"github.com/sockerless/sockerless/builder/backend"
)

// maxRunning bounds the concurrent steps of a client's builds.
const maxRunning = 8

// maxTalking bounds the concurrent containers of frontends of a client's builds: one in an image can ask for more of
// itself. BuildKit ends one that does not begin to talk for ten seconds.
const maxTalking = 64

// maxTransfers bounds the images that a client's builds have the backend pull and push at once: each holds a connection of
// the backend while its registry is silent.
const maxTransfers = 4

// maxWorking bounds the operations on files that a client's builds do at once: each has files, connections and memory here
// and in the backend. maxDescribed bounds the images that they have described at once, for which others wait in line.
const (
	maxWorking   = 8
	maxDescribed = 4
)

// buildkitVersion is the module's version, by which clients know its features.
const buildkitVersion = "v0.33.1"

// Worker implements BuildKit's worker.
type Worker struct {
	backend  *backend.Client
	states   *states
	contexts *contexts
	caches   *cacheVolumes
	blobs    blobs
	stages   stages
	limits   Limits
	// Whether single files are given with a start instead of being mounted.
	mountsDirectoriesOnly bool

	references references
	removals   removals
	sources    *source.Manager
	git        *gitSource
	downloads  *httpSource
	// How this process, and git, access the web.
	web       nethttp.RoundTripper
	gitProxy  *gitProxy
	running   slots // of steps
	talking   slots // of containers of frontends
	transfers slots // of images that are pulled and pushed
	working   slots // of operations on files
	described slots // of images
	clients   clients
	// Registries, as `host`, `host:port` or ranges of addresses.
	insecureRegistries []string
	// Directory of files that do not outlive this process.
	scratch string
	// Directory of programs that precede the machine's in children's PATH.
	programs string

	// Time for which a session may leave a question of a step that others share.
	silence time.Duration

	content  *ctdsnapshot.Store
	metadata *ctdmetadata.DB
	leases   *leaseutil.Manager
	images   *containerimage.ImageWriter
	dbs      []*bolt.DB
}

// Limits bound a worker's resources.
type Limits struct {
	// CacheBytes bounds the build cache; 0: unlimited.
	CacheBytes int64
	Context    ContextLimits
}

var _ bkworker.Worker = (*Worker)(nil)

// New opens the worker's files in a directory and removes what a killed one has left. The given registries (host, host
// and port, or address range) need no TLS, or no trusted certificate.
func New(ctx context.Context, client *backend.Client, directory string, limits Limits, insecureRegistries []string) (*Worker, error) {
	w := &Worker{
		insecureRegistries: insecureRegistries,
		backend:            client, limits: limits, running: slots{size: maxRunning}, talking: slots{size: maxTalking}, transfers: slots{size: maxTransfers}, caches: newCacheVolumes(), silence: maxSilence,
		scratch: filepath.Join(directory, "scratch"), programs: filepath.Join(directory, "programs"),
	}
	w.working, w.described = slots{size: maxWorking, clients: &w.clients}, slots{size: maxDescribed, clients: &w.clients}
	if err := os.RemoveAll(w.scratch); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(w.scratch, 0o700); err != nil {
		return nil, err
	}
	w.contexts = &contexts{root: w.scratch}
	db, err := w.openDB(filepath.Join(directory, "states.db"), nil)
	if err != nil {
		return nil, err
	}
	if w.states, err = openStates(client, db); err != nil {
		return nil, err
	}
	store, err := local.NewStore(filepath.Join(directory, "content"))
	if err != nil {
		return nil, err
	}
	metadataDB, err := w.openDB(filepath.Join(directory, "metadata.db"), Unsynced)
	if err != nil {
		return nil, err
	}
	w.metadata = ctdmetadata.NewDB(metadataDB, store, nil)
	if err := w.metadata.Init(ctx); err != nil {
		return nil, err
	}
	w.content = ctdsnapshot.NewContentStore(w.metadata.ContentStore(), "buildkit")
	w.leases = leaseutil.WithNamespace(ctdmetadata.NewLeaseManager(w.metadata), "buildkit")
	if w.images, err = containerimage.NewImageWriter(containerimage.WriterOpt{ContentStore: w.content}); err != nil {
		return nil, err
	}
	if w.sources, err = source.NewManager(); err != nil {
		return nil, err
	}
	files, err := newLocalSource(w)
	if err != nil {
		return nil, err
	}
	w.web = downloading(machineProxy, limits.Context.Bytes)
	w.downloads, err = newHTTPSource(w)
	if err != nil {
		return nil, err
	}
	if w.gitProxy, err = startGitProxy(machineProxy, limits.Context.Bytes); err != nil {
		return nil, err
	}
	if w.git, err = newGitSource(w); err != nil {
		return nil, err
	}
	for _, each := range []source.Source{
		files, &imageSource{w}, w.downloads, w.git, &ociLayoutSource{w}, &unbuiltSource{[]string{srctypes.DockerImageBlobScheme, srctypes.OCIBlobScheme}},
	} {
		w.sources.Register(recoveringSource{each})
	}
	info, err := client.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask what the backend can do: %w", err)
	}
	w.mountsDirectoriesOnly = info.MountsDirectoriesOnly
	if err := w.removeLeft(ctx); err != nil {
		return nil, fmt.Errorf("remove the containers of an earlier builder: %w", err)
	}
	w.removals.waitForAll(ctx)
	// After a backup is restored there are no records, and this removes every state: too long for a start.
	go func() { Warn("remove lost states of the build cache", w.states.removeLost(ctx)) }()
	return w, nil
}

// Unsynced are options of the databases of BuildKit's history. Each build's end commits to them a dozen times, while others' wait:
// none of these waits for the disk. A database that a cut of the power has damaged is dropped at the next start.
var Unsynced = &bolt.Options{NoSync: true}

func (w *Worker) openDB(file string, options *bolt.Options) (*bolt.DB, error) {
	db, err := bolt.Open(file, 0o600, options)
	if err == nil {
		w.dbs = append(w.dbs, db)
	}
	return db, err
}

// Close closes the worker's files.
func (w *Worker) Close() error {
	err := w.gitProxy.close()
	for _, db := range w.dbs {
		err = errors.Join(err, db.Close())
	}
	return errors.Join(err, os.RemoveAll(w.scratch))
}

// ID names the worker in the cache's keys.
func (w *Worker) ID() string { return "sockerless" }

// HostGateway stands for a backend's host-gateway, because BuildKit accepts only addresses for hosts: it is the dummy
// address of RFC 7600, which no host has.
const HostGateway = "192.0.0.8"

// Labels are those that buildx needs: without the snapshotter's name its docker driver refuses half of its flags.
func (w *Worker) Labels() map[string]string {
	return map[string]string{
		"org.mobyproject.buildkit.worker.snapshotter": "sockerless", "org.mobyproject.buildkit.worker.executor": "sockerless",
		"org.mobyproject.buildkit.worker.moby.host-gateway-ip": HostGateway,
	}
}

// Platforms lists the platforms for which commands run.
func (w *Worker) Platforms(bool) []ocispecs.Platform {
	return []ocispecs.Platform{{OS: "linux", Architecture: runtime.GOARCH}}
}

// BuildkitVersion is the library's version.
func (w *Worker) BuildkitVersion() client.BuildkitVersion {
	return client.BuildkitVersion{Package: "github.com/moby/buildkit", Version: buildkitVersion}
}

// GCPolicy makes BuildKit prune the cache to its limits after builds.
func (w *Worker) GCPolicy() []client.PruneInfo {
	most := w.limits.CacheBytes
	if most == 0 {
		most = math.MaxInt64
	}
	return []client.PruneInfo{{All: true, MaxUsedSpace: most}}
}

// LoadRef returns a state of the build cache; not found if its record is gone or, unless hidden, its image. A hidden one is
// only checked, not used, and BuildKit forgets whatever fails here. A context is found while it is referenced.
func (w *Worker) LoadRef(ctx context.Context, id string, hidden bool) (cache.ImmutableRef, error) {
	load := w.states.load
	if hidden {
		ctx = context.WithoutCancel(ctx)
		// BuildKit uses its ID to request the layers of an image that consists of a context.
		if found := w.references.contextOf(id); found != nil {
			return found, nil
		}
		// BuildKit checks all results of a step in the one goroutine that schedules every build: the backend is asked for
		// the one that is used.
		load = w.states.loadRecorded
	}
	found, err := load(ctx, id)
	if errors.Is(err, errNoState) {
		// Exports of caches excuse errdefs' error only.
		return nil, fmt.Errorf("%w: state %s: %w", solver.ErrNotFound, id, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if !hidden {
		if err := w.states.note(id, func(*record) {}); err != nil {
			w.states.letGo(id)
			return nil, err
		}
	}
	return w.stateRef(found), nil
}

// ResolveOp returns the operation of a vertex.
func (w *Worker) ResolveOp(v solver.Vertex, bridge frontend.FrontendLLBBridge, sessions *session.Manager, _ bkworker.ProxyOpt) (_ solver.Op, err error) {
	defer Recovered(&err)
	waitForImports(v)
	base, ok := v.Sys().(*pb.Op)
	if !ok {
		return nil, fmt.Errorf("a vertex of type %T", v.Sys())
	}
	if op, ok := base.Op.(*pb.Op_Source); ok {
		return ops.NewSourceOp(v, op, base.Platform, w.sources, nil, sessions, w)
	}
	made, err := w.newOp(v, base, bridge, sessions)
	if err != nil {
		return nil, err
	}
	switch base.Op.(type) {
	case *pb.Op_File, *pb.Op_Merge, *pb.Op_Diff:
		made = workingOp{made, &w.working}
	}
	return recoveringOp{made}, nil
}

// workingOp has a slot of its build's clients while it makes a state of files.
type workingOp struct {
	solver.Op
	slots *slots
}

// Exec waits for a slot.
func (o workingOp) Exec(ctx context.Context, job solver.JobContext, inputs []solver.Result) ([]solver.Result, error) {
	leave, err := o.slots.takeOf(ctx, job.Session())
	if err != nil {
		return nil, err
	}
	defer leave()
	return o.Op.Exec(ctx, job, inputs)
}

// OfClient makes a session's builds a client's, with what they do at once, until the returned function is called.
func (w *Worker) OfClient(session, client string) (leave func()) {
	return w.clients.enter(session, client)
}

// newOp returns the operation of a vertex without a source.
func (w *Worker) newOp(v solver.Vertex, base *pb.Op, bridge frontend.FrontendLLBBridge, sessions *session.Manager) (solver.Op, error) {
	switch op := base.Op.(type) {
	case *pb.Op_Exec:
		return w.newExecOp(v, op, base.Platform, sessions)
	case *pb.Op_File:
		return w.newFileOp(v, op)
	case *pb.Op_Build:
		return ops.NewBuildOp(v, op, buildOpBridge{BoundedBridge{bridge, &Warnings{}}}, w)
	case *pb.Op_Merge:
		return ops.NewMergeOp(v, op, w)
	case *pb.Op_Diff:
		return ops.NewDiffOp(v, op, w)
	case *pb.Op_Passthrough:
		return ops.NewPassthroughOp(v, op)
	}
	return nil, fmt.Errorf("sockerless: operations of type %T are not implemented by the builder", base.Op)
}

// waitForImports waits until a vertex's imported caches are described. Otherwise the solver would wait for them, by a
// query in the one goroutine that schedules every build.
func waitForImports(v solver.Vertex) {
	for _, cache := range v.Options().CacheSources {
		_, _ = cache.Query(nil, 0, "", 0)
	}
}

// DiskUsage lists the build cache.
func (w *Worker) DiskUsage(_ context.Context, info client.DiskUsageInfo) ([]*client.UsageInfo, error) {
	return w.states.usage(info.Filter)
}

// Prune removes from the build cache and reports what it has removed.
func (w *Worker) Prune(ctx context.Context, removed chan client.UsageInfo, options ...client.PruneInfo) error {
	w.removals.waitForAll(ctx)
	for _, each := range options {
		gone, err := w.states.prune(ctx, each)
		if removed != nil {
			for _, info := range gone {
				removed <- info // A client that reads slowly keeps no other's prune waiting.
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Exporter returns the exporter of a build's result.
func (w *Worker) Exporter(name string, sessions *session.Manager) (exporter.Exporter, error) {
	switch name {
	case "moby", client.ExporterImage:
		return &stateExporter{&imageExporter{worker: w, sessions: sessions, hosts: w.Hosts(false), kind: name}, w}, nil
	case client.ExporterDocker, client.ExporterOCI:
		made, err := ociexporter.New(ociexporter.Opt{
			SessionManager: sessions, ImageWriter: w.images, Variant: ociexporter.ExporterVariant(name), LeaseManager: w.leases,
		})
		return &stateExporter{made, w}, err
	case client.ExporterLocal:
		return localexporter.New(localexporter.Opt{SessionManager: sessions})
	case client.ExporterTar:
		return tarexporter.New(tarexporter.Opt{SessionManager: sessions})
	}
	return nil, fmt.Errorf("sockerless: the exporter %q is not implemented by the builder", name)
}

// PruneCacheMounts empties the cache mounts with these IDs, for a build with --no-cache. What a step of another build
// uses, or is about to mount, stays.
func (w *Worker) PruneCacheMounts(ctx context.Context, ids map[string]bool) error {
	w.removals.waitForAll(ctx)
	isWanted := map[string]bool{}
	for id := range ids {
		isWanted[cacheVolume(id)] = true
	}
	volumes, err := w.backend.VolumesOf(ctx, cacheVolumePrefix)
	if err != nil {
		return backend.Plain(err)
	}
	for _, volume := range volumes {
		if isWanted[volume[:min(len(volume), cacheVolumeLength)]] {
			if err := w.pruneCache(ctx, volume); err != nil {
				return backend.Plain(err)
			}
		}
	}
	return nil
}

func (w *Worker) pruneCache(ctx context.Context, volume string) error {
	release, ok := w.caches.claim(volume)
	if !ok {
		return nil
	}
	defer release()
	return w.backend.RemoveUnusedVolume(ctx, volume)
}

// Hosts configures access to registries without the backend: those of caches and indices. It treats the same ones as
// insecure as the backend does, or all of them.
func (w *Worker) Hosts(areInsecure bool) docker.RegistryHosts {
	return func(host string) ([]docker.RegistryHost, error) {
		name := host
		if bare, _, err := net.SplitHostPort(host); err == nil {
			name = bare
		}
		name = strings.Trim(name, "[]")
		if err := refuseMetadataHost(name); err != nil {
			return nil, err
		}
		isInsecure := areInsecure || slices.ContainsFunc(w.insecureRegistries, func(each string) bool { return each == host || each == name || isWithin(name, each) })
		known := map[string]config.RegistryConfig{}
		if isInsecure {
			known[host] = config.RegistryConfig{Insecure: &isInsecure, PlainHTTP: &isInsecure}
		}
		hosts, err := resolver.NewRegistryConfig(known)(host)
		for at := range hosts {
			hosts[at].Client = &nethttp.Client{Transport: askingRegistries(machineProxy, isInsecure)}
		}
		return hosts, err
	}
}

// isWithin reports whether a host is an address in a range.
func isWithin(host, addresses string) bool {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	within, err := netip.ParsePrefix(addresses)
	return err == nil && within.Contains(address)
}

// GarbageCollect removes what no lease keeps in the content store: histories, and documents of exported images.
func (w *Worker) GarbageCollect(ctx context.Context) error {
	_, err := w.metadata.GarbageCollect(ctx)
	return err
}

// ContentStore keeps BuildKit's history of builds, and documents of images while they are exported.
func (w *Worker) ContentStore() *ctdsnapshot.Store { return w.content }

// LeaseManager keeps the leases of that history.
func (w *Worker) LeaseManager() *leaseutil.Manager { return w.leases }

// Executor runs containers that are not steps: those of frontends.
func (w *Worker) Executor() executor.Executor { return frontends{w} }

// CacheManager is for operations that stack states.
func (w *Worker) CacheManager() cache.Manager { return &manager{Worker: w} }

// CDIManager is nil: steps get no devices.
func (w *Worker) CDIManager() *cdidevices.Manager { return nil }
