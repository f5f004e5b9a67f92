package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/bklog"
	digest "github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// states are the file systems between the steps of builds: each is an image of the backend with the build label and a
// neutral configuration, so that its layers alone identify it. Their records are the contents of the build cache.
type states struct {
	backend *backend.Client
	db      *bolt.DB

	// References by image ID: referenced states are not pruned.
	*holds
	pruning *semaphore.Weighted

	mu sync.Mutex
	// Running commits, with the image IDs whose removal has ended meanwhile.
	commits map[*commitUnderWay]struct{}
}

type commitUnderWay struct{ removed map[string]bool }

// record is one entry of the build cache.
type record struct {
	ID          string                 `json:"id"`
	Parent      string                 `json:"parent,omitempty"`
	DiffIDs     []digest.Digest        `json:"diffIds"`
	Size        int64                  `json:"size"`
	Description string                 `json:"description"`
	Type        client.UsageRecordType `json:"type"`
	CreatedAt   time.Time              `json:"createdAt"`
	LastUsedAt  time.Time              `json:"lastUsedAt"`
	UsageCount  int                    `json:"usageCount"`
}

var recordsBucket = []byte("states")

// openStates drops damaged records: their builds run again.
func openStates(client *backend.Client, db *bolt.DB) (*states, error) {
	err := db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(recordsBucket)
		if err != nil {
			return err
		}
		return dropDamaged(bucket, db.Path())
	})
	return &states{backend: client, db: db, holds: newHolds(), pruning: semaphore.NewWeighted(1), commits: map[*commitUnderWay]struct{}{}}, err
}

// dropDamaged removes records that cannot be read, or that are another state's: bbolt has no checksum of them.
func dropDamaged(records *bolt.Bucket, file string) error {
	damaged := map[string]error{}
	err := records.ForEach(func(id, data []byte) error {
		var r record
		if err := json.Unmarshal(data, &r); err != nil {
			damaged[string(id)] = err
		} else if r.ID != string(id) {
			damaged[string(id)] = fmt.Errorf("it is of %q", r.ID)
		}
		return nil
	})
	for id, reason := range damaged {
		bklog.L.Warnf("the record of state %q in the build cache's %s is damaged and dropped: %s", id, file, reason)
		err = errors.Join(err, records.Delete([]byte(id)))
	}
	return err
}

// maxConfigs bounds the configurations of all states: half of what the backend lets those of all images hold.
const maxConfigs = 32 << 20

// configWeight is some more than what the backend counts for a state's configuration.
func (r record) configWeight() int { return 2<<10 + 200*len(r.DiffIDs) }

// stateConfig is the configuration of a state's image: equal layers make equal images.
func stateConfig(diffIDs []digest.Digest) ([]byte, error) {
	return json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"created":      time.Unix(0, 0).UTC(),
		"config":       map[string]any{"Labels": map[string]string{backend.Label: "state"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": diffIDs},
		"history":      []any{},
	})
}

// origin describes what a state was made from.
type origin struct {
	parent      string
	description string
	kind        client.UsageRecordType
	// Creation time; zero: now.
	made time.Time
	// Size of the top layer in bytes; a given layer's own size takes precedence.
	size int64
}

// install creates the state of these layers. The backend has all of them, except the top one if that is given. The
// caller gets a hold on the state.
func (s *states) install(ctx context.Context, diffIDs []digest.Digest, top *backend.Layer, from origin) (record, error) {
	config, err := stateConfig(diffIDs)
	if err != nil {
		return record{}, err
	}
	id := digest.FromBytes(config).String()
	if from.parent == id {
		// The step changed nothing.
		from.parent = ""
	}
	if err := s.hold(ctx, id); err != nil {
		return record{}, err
	}
	made, err := s.installHeld(ctx, id, config, diffIDs, top, from)
	if err != nil {
		s.letGo(id)
	}
	return made, err
}

func (s *states) installHeld(ctx context.Context, id string, config []byte, diffIDs []digest.Digest, top *backend.Layer, from origin) (record, error) {
	if _, err := s.find(ctx, id); err != nil {
		if _, err := s.backend.InstallImage(ctx, config, diffIDs, top, nil, true); err != nil {
			return record{}, backend.Plain(err)
		}
	}
	if top != nil {
		from.size = top.Size
	}
	return s.keep(id, diffIDs, from)
}

// commit creates the state of a container's files. The caller gets a hold on it.
func (s *states) commit(ctx context.Context, container string, mountPoints []string, from origin) (record, error) {
	config, err := stateConfig(nil)
	if err != nil {
		return record{}, err
	}
	for held := ""; ; {
		end := s.beginCommit()
		made, err := s.backend.CommitContainer(ctx, container, mountPoints, config)
		if held != "" && held != made.ID {
			s.letGo(held)
		}
		if err != nil {
			end()
			return record{}, err
		}
		if held != made.ID {
			// The commit has ended: a cancellation from now on leaves a recorded state.
			if err := s.hold(context.WithoutCancel(ctx), made.ID); err != nil {
				end()
				return record{}, err
			}
		}
		held = made.ID
		if removed := end(); removed[made.ID] {
			continue // an equal state was removed meanwhile, perhaps after the commit
		}
		from.size = made.Size
		kept, err := s.keep(made.ID, made.DiffIDs, from)
		if err != nil {
			s.letGo(made.ID)
		}
		return kept, err
	}
}

// maxDescription bounds a state's description, and maxDescriptions those in a list of the build cache, or of what
// a prune has removed, together.
const (
	maxDescription  = 4 << 10
	maxDescriptions = 2 << 20
)

func shortened(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// keep records a new state of the backend, or the use of a known one.
func (s *states) keep(id string, diffIDs []digest.Digest, from origin) (record, error) {
	from.description = shortened(from.description, maxDescription)
	if known, err := s.recorded(id); err == nil {
		return known, s.note(id, func(r *record) {
			if from.kind != client.UsageRecordTypeInternal && r.Type == client.UsageRecordTypeInternal {
				// It is no longer an internal state, which is removed with its step.
				r.Parent, r.Description, r.Type = from.parent, from.description, from.kind
			}
		})
	}
	now := time.Now()
	made := record{
		ID: id, Parent: from.parent, DiffIDs: diffIDs, Description: from.description, Type: from.kind, CreatedAt: now, LastUsedAt: now, Size: from.size,
	}
	if !from.made.IsZero() {
		made.CreatedAt = from.made
	}
	return made, s.put(made)
}

// load returns the record of an existing state, and holds it.
func (s *states) load(ctx context.Context, id string) (record, error) {
	return s.holding(ctx, id, func() (record, error) { return s.find(ctx, id) })
}

// loadRecorded returns a state's record, whether or not the backend has its image, and holds it.
func (s *states) loadRecorded(ctx context.Context, id string) (record, error) {
	return s.holding(ctx, id, func() (record, error) { return s.recorded(id) })
}

func (s *states) holding(ctx context.Context, id string, load func() (record, error)) (record, error) {
	if err := s.hold(ctx, id); err != nil {
		return record{}, err
	}
	found, err := load()
	if err != nil {
		s.letGo(id)
	}
	return found, err
}

// errNoState means that the backend no longer has the state.
var errNoState = errors.New("no such state")

// find returns the record of a state whose image exists. If the image is gone or has other layers, the record is deleted.
func (s *states) find(ctx context.Context, id string) (record, error) {
	found, err := s.recorded(id)
	if err != nil {
		return record{}, err
	}
	image, err := s.backend.Image(ctx, id)
	if err != nil {
		if backend.Is(err, connect.CodeNotFound) {
			return record{}, errors.Join(errNoState, s.forget(id))
		}
		return record{}, err
	}
	if !slices.EqualFunc(image.DiffIds, found.DiffIDs, func(has string, recorded digest.Digest) bool { return has == string(recorded) }) {
		bklog.G(ctx).Warnf("the record of state %s in the build cache's %s is damaged and dropped: its layers are others", id, s.db.Path())
		return record{}, errors.Join(errNoState, s.forget(id))
	}
	return found, nil
}

func (s *states) recorded(id string) (found record, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		data := tx.Bucket(recordsBucket).Get([]byte(id))
		if data == nil {
			return errNoState
		}
		return json.Unmarshal(data, &found)
	})
	return found, err
}

// ofLayers returns the record of the state of these layers.
func (s *states) ofLayers(diffIDs []digest.Digest) (record, error) {
	config, err := stateConfig(diffIDs)
	if err != nil {
		return record{}, err
	}
	return s.recorded(digest.FromBytes(config).String())
}

// madeAt returns the creation time of each layer's state in a stack. A layer that was never a state gets the next one's
// time.
func (s *states) madeAt(diffIDs []digest.Digest) ([]time.Time, error) {
	times := make([]time.Time, len(diffIDs))
	later := time.Now().UTC()
	for at := len(diffIDs) - 1; at >= 0; at-- {
		known, err := s.ofLayers(diffIDs[:at+1])
		if err == nil {
			later = known.CreatedAt.UTC()
		} else if !errors.Is(err, errNoState) {
			return nil, err
		}
		times[at] = later
	}
	return times, nil
}

func (s *states) put(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(recordsBucket).Put([]byte(r.ID), data) })
}

// note changes a record and counts a use of it, in a transaction of its own.
func (s *states) note(id string, change func(*record)) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(recordsBucket)
		data := bucket.Get([]byte(id))
		if data == nil {
			return nil
		}
		var r record
		if err := json.Unmarshal(data, &r); err != nil {
			return err
		}
		r.LastUsedAt = time.Now()
		r.UsageCount++
		change(&r)
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return bucket.Put([]byte(id), data)
	})
}

func (s *states) forget(id string) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(recordsBucket).Delete([]byte(id)) })
}

func (s *states) list() ([]record, error) {
	var all []record
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsBucket).ForEach(func(_, data []byte) error {
			var r record
			if err := json.Unmarshal(data, &r); err != nil {
				return err
			}
			all = append(all, r)
			return nil
		})
	})
	return all, err
}

// claim begins the removal of an unused state, and returns a function that ends it.
func (s *states) claim(id string) (release func(), ok bool) {
	end, ok := s.holds.claim(id)
	if !ok {
		return nil, false
	}
	return func() {
		s.mu.Lock()
		for each := range s.commits {
			each.removed[id] = true
		}
		s.mu.Unlock()
		end()
	}, true
}

// beginCommit returns a function that ends the commit and returns the states removed meanwhile.
func (s *states) beginCommit() (end func() map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := &commitUnderWay{map[string]bool{}}
	s.commits[begun] = struct{}{}
	return func() map[string]bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.commits, begun)
		return begun.removed
	}
}

// usage describes the build cache's contents as BuildKit does.
func (s *states) usage(filters []string) ([]*client.UsageInfo, error) {
	all, err := s.list()
	if err != nil {
		return nil, err
	}
	matches, err := parseFilters(filters)
	if err != nil {
		return nil, err
	}
	var infos []*client.UsageInfo
	for _, r := range all {
		if info := s.infoOf(r); matches(info) {
			info.Description = shortened(info.Description, maxDescriptions/len(all))
			infos = append(infos, info)
		}
	}
	return infos, nil
}

func (s *states) infoOf(r record) *client.UsageInfo {
	used := r.LastUsedAt
	info := &client.UsageInfo{
		ID: r.ID, InUse: s.isInUse(r.ID), Size: r.Size, CreatedAt: r.CreatedAt, LastUsedAt: &used,
		UsageCount: r.UsageCount, Description: r.Description, RecordType: r.Type,
	}
	if r.Parent != "" {
		info.Parents = []string{r.Parent}
	}
	return info
}

// prune removes matching, unused states, least recently used first, until the options' limits and maxConfigs are met, and
// returns them, on errors too. A parent stays as long as its children, because its layers would too. Prunes take turns:
// each has all records in memory.
func (s *states) prune(ctx context.Context, options client.PruneInfo) (gone []client.UsageInfo, err error) {
	matches, err := parseFilters(options.Filter)
	if err != nil {
		return nil, err
	}
	if err := s.pruning.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	defer s.pruning.Release(1)
	all, err := s.list()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b record) int { return a.LastUsedAt.Compare(b.LastUsedAt) })
	var total int64
	configs := 0
	children := map[string]int{}
	for _, r := range all {
		total += r.Size
		configs += r.configWeight()
		children[r.Parent]++
	}
	keep := max(options.ReservedSpace, options.MaxUsedSpace)
	for r := range leaves(all, func(id string) bool { return children[id] > 0 }) {
		if keep > 0 && total <= keep && configs <= maxConfigs {
			return gone, nil
		}
		if err := ctx.Err(); err != nil {
			return gone, err
		}
		info := s.infoOf(r)
		if info.InUse || !matches(info) || (options.KeepDuration > 0 && time.Since(r.LastUsedAt) < options.KeepDuration) {
			continue
		}
		isGone, err := s.remove(ctx, r.ID)
		if err != nil {
			return gone, err
		}
		if isGone {
			total -= r.Size
			configs -= r.configWeight()
			children[r.Parent]--
			info.Description = shortened(info.Description, maxDescriptions/len(all))
			gone = append(gone, *info)
		}
	}
	return gone, nil
}

// leaves yields each record that has no children, in the records' order. A parent whose turn has passed follows the last
// of its children that the loop removes.
func leaves(records []record, hasChildren func(id string) bool) iter.Seq[record] {
	return func(yield func(record) bool) {
		places := make(map[string]int, len(records))
		for at, r := range records {
			places[r.ID] = at
		}
		for turn, r := range records {
			for !hasChildren(r.ID) {
				if !yield(r) {
					return
				}
				parent, isRecorded := places[r.Parent]
				if !isRecorded || parent >= turn {
					break
				}
				r = records[parent]
			}
		}
	}
}

// remove removes a state, unless a build or another image needs it.
func (s *states) remove(ctx context.Context, id string) (bool, error) {
	release, ok := s.claim(id)
	if !ok {
		return false, nil
	}
	defer release()
	return s.removeClaimed(ctx, id)
}

// removeInternal removes a state installed for only one step, unless a build uses it or has created an equal one.
func (s *states) removeInternal(ctx context.Context, id string) error {
	release, ok := s.claim(id)
	if !ok {
		return nil
	}
	defer release()
	known, err := s.recorded(id)
	if errors.Is(err, errNoState) {
		return nil
	}
	if err != nil || known.Type != client.UsageRecordTypeInternal {
		return err
	}
	_, err = s.removeClaimed(ctx, id)
	return err
}

// removeUnrecorded removes a state that has no record, unless a build uses it or has recorded it meanwhile.
func (s *states) removeUnrecorded(ctx context.Context, id string) error {
	release, ok := s.claim(id)
	if !ok {
		return nil
	}
	defer release()
	if _, err := s.recorded(id); !errors.Is(err, errNoState) {
		return err
	}
	_, err := s.removeClaimed(ctx, id)
	return err
}

// removeClaimed leaves a state that a container or another image stands on, and only forgets one that has become a user's.
func (s *states) removeClaimed(ctx context.Context, id string) (bool, error) {
	if err := s.backend.RemoveImage(ctx, id); err != nil {
		if backend.Is(err, connect.CodeFailedPrecondition) || backend.Is(err, connect.CodeAborted) || backend.Is(err, connect.CodeAlreadyExists) {
			return false, nil
		}
		return false, err
	}
	return true, s.forget(id)
}

// removeLost removes state images without a record, as a builder was killed before it wrote one or records were lost, and
// forgets records without an image. An image that cannot be removed stays until the next start. Builds run meanwhile.
func (s *states) removeLost(ctx context.Context) error {
	all, err := s.list()
	if err != nil {
		return err
	}
	recorded := map[string]bool{}
	for _, r := range all {
		recorded[r.ID] = true
	}
	response, err := s.backend.Images.ListImages(ctx, connect.NewRequest(&backendv1.ListImagesRequest{
		All: true, Filters: map[string]*backendv1.StringList{"label": {Values: []string{backend.Label}}},
	}))
	if err != nil {
		return err
	}
	for _, image := range response.Msg.Images {
		if ctx.Err() != nil {
			return nil // the builder ends
		}
		if image.OfBuild && !recorded[image.Id] {
			Warn("remove the lost state "+image.Id, s.removeUnrecorded(ctx, image.Id))
		}
		delete(recorded, image.Id)
	}
	for id := range recorded {
		if ctx.Err() != nil {
			return nil
		}
		release, ok := s.claim(id)
		if !ok {
			continue
		}
		// A list leaves out images that could not be read.
		if _, err := s.find(ctx, id); err != nil && !errors.Is(err, errNoState) {
			bklog.G(ctx).WithError(err).Warnf("whether the state %s of the build cache is gone cannot be told", id)
		}
		release()
	}
	return nil
}
