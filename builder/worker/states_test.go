package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/bklog"
	digest "github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	bolt "go.etcd.io/bbolt"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
)

func statesOf(t *testing.T) (*states, *backendtest.Backend) {
	t.Helper()
	server, connection := backendtest.Start(t)
	db, err := bolt.Open(filepath.Join(t.TempDir(), "states.db"), 0o600, nil)
	assert.NilError(t, err)
	t.Cleanup(func() { db.Close() })
	made, err := openStates(connection, db)
	assert.NilError(t, err)
	return made, server
}

// installed makes a state of one layer.
func installed(t *testing.T, s *states, name string) record {
	t.Helper()
	made, err := s.install(context.Background(), []digest.Digest{digest.FromString(name)}, nil, origin{description: name, kind: client.UsageRecordTypeRegular})
	assert.NilError(t, err)
	return made
}

func pruned(t *testing.T, s *states, options client.PruneInfo) []string {
	t.Helper()
	infos, err := s.prune(context.Background(), options)
	assert.NilError(t, err)
	var gone []string
	for _, info := range infos {
		gone = append(gone, info.Description)
	}
	slices.Sort(gone)
	return gone
}

func TestAHeldStateIsNotPruned(t *testing.T) {
	s, _ := statesOf(t)
	held, free := installed(t, s, "held"), installed(t, s, "free")
	s.letGo(free.ID)
	if gone := pruned(t, s, client.PruneInfo{All: true}); !slices.Equal(gone, []string{"free"}) {
		t.Errorf("pruned %v", gone)
	}
	_, err := s.load(context.Background(), held.ID)
	assert.Check(t, err)
	_, err = s.load(context.Background(), free.ID)
	assert.Check(t, is.ErrorIs(err, errNoState), "the pruned state")
}

func TestAStateThatIsBeingPrunedIsNotHandedOut(t *testing.T) {
	s, server := statesOf(t)
	made := installed(t, s, "made")
	s.letGo(made.ID)
	type answer struct{ err error }
	loaded := make(chan answer, 1)
	server.Before = func(procedure string) {
		if procedure == "RemoveImage" {
			asking := make(chan struct{})
			go func() {
				close(asking)
				_, err := s.load(context.Background(), made.ID)
				loaded <- answer{err}
			}()
			<-asking
		}
	}
	assert.Check(t, is.Len(pruned(t, s, client.PruneInfo{All: true}), 1))
	if got := <-loaded; !errors.Is(got.err, errNoState) {
		t.Errorf("the state was handed out while it was removed: %v", got.err)
	}
}

func TestAStateIsNotPrunedWhileItIsLookedFor(t *testing.T) {
	s, server := statesOf(t)
	made := installed(t, s, "made")
	s.letGo(made.ID)
	server.Before = func(procedure string) {
		if procedure == "InspectImage" {
			assert.Check(t, is.Len(pruned(t, s, client.PruneInfo{All: true}), 0))
		}
	}
	_, err := s.load(context.Background(), made.ID)
	assert.Check(t, err)
	if there := server.Images(); !slices.Equal(there, []string{made.ID}) {
		t.Errorf("the backend has %v", there)
	}
}

func TestAStateWhoseImageIsGoneIsForgotten(t *testing.T) {
	s, _ := statesOf(t)
	made := installed(t, s, "made")
	assert.NilError(t, s.backend.RemoveImage(context.Background(), made.ID))
	_, err := s.load(context.Background(), made.ID)
	assert.Check(t, is.ErrorIs(err, errNoState), "loaded")
	if left, err := s.list(); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestStatesAndRecordsThatLackTheOtherAreRemovedAtTheStart(t *testing.T) {
	s, server := statesOf(t)
	whole, gone, lost := installed(t, s, "whole"), installed(t, s, "gone"), installed(t, s, "lost")
	for _, each := range []record{whole, gone, lost} {
		s.letGo(each.ID)
	}
	assert.NilError(t, errors.Join(s.backend.RemoveImage(t.Context(), gone.ID), s.forget(lost.ID), s.removeLost(t.Context())))
	if left, err := s.list(); err != nil || len(left) != 1 || left[0].ID != whole.ID {
		t.Errorf("records %v, %v", left, err)
	}
	if there := server.Images(); !slices.Equal(there, []string{whole.ID}) {
		t.Errorf("the backend has %v", there)
	}
}

func TestAStateThatAUserHasNamedIsForgottenOnly(t *testing.T) {
	s, server := statesOf(t)
	named := installed(t, s, "named")
	s.letGo(named.ID)
	server.OfUsers = []string{named.ID}
	pruned(t, s, client.PruneInfo{All: true})
	if there := server.Images(); !slices.Equal(there, []string{named.ID}) {
		t.Errorf("the backend has %v", there)
	}
	if left, err := s.list(); err != nil || len(left) != 0 {
		t.Errorf("records %v, %v", left, err)
	}
}

func TestALostStateInUseStays(t *testing.T) {
	s, server := statesOf(t)
	lost := installed(t, s, "lost")
	s.letGo(lost.ID)
	server.RemoveImageError = connect.NewError(connect.CodeAlreadyExists, errors.New("conflict: unable to delete (must be forced)"))
	assert.NilError(t, errors.Join(s.forget(lost.ID), s.removeLost(t.Context())))
	if there := server.Images(); !slices.Equal(there, []string{lost.ID}) {
		t.Errorf("the backend has %v", there)
	}
}

func TestALostStateThatCannotBeRemovedHoldsUpNoBuilder(t *testing.T) {
	s, server := statesOf(t)
	lost := installed(t, s, "lost")
	s.letGo(lost.ID)
	server.RemoveImageError = connect.NewError(connect.CodeInternal, errors.New("the registry refuses"))
	assert.Check(t, errors.Join(s.forget(lost.ID), s.removeLost(t.Context())))
}

func TestABuilderStartsWhileLostStatesAreRemoved(t *testing.T) {
	s, server := statesOf(t)
	lost := installed(t, s, "lost")
	assert.NilError(t, s.forget(lost.ID))
	started, removed := make(chan struct{}), make(chan struct{})
	server.Before = func(procedure string) {
		if procedure == "RemoveImage" {
			select {
			case <-started:
			case <-time.After(time.Second):
				t.Error("the builder waits")
			}
			close(removed)
		}
	}
	w, err := New(t.Context(), s.backend, t.TempDir(), Limits{Context: wide}, nil)
	assert.NilError(t, err)
	defer w.Close()
	close(started)
	<-removed
}

func TestTheRecordsOfStatesAloneWaitForTheDisk(t *testing.T) {
	s, _ := statesOf(t)
	w, err := New(t.Context(), s.backend, t.TempDir(), Limits{Context: wide}, nil)
	assert.NilError(t, err)
	defer w.Close()
	for _, db := range w.dbs {
		assert.Check(t, db.NoSync == (filepath.Base(db.Path()) == "metadata.db"), db.Path())
	}
}

func TestALostStateThatABuildHasRecordedMeanwhileStays(t *testing.T) {
	s, server := statesOf(t)
	lost := installed(t, s, "lost")
	s.letGo(lost.ID)
	assert.NilError(t, s.forget(lost.ID))
	server.Before = func(procedure string) {
		if procedure == "ListImages" {
			s.letGo(installed(t, s, "lost").ID)
		}
	}
	assert.NilError(t, s.removeLost(t.Context()))
	if there := server.Images(); !slices.Equal(there, []string{lost.ID}) {
		t.Errorf("the backend has %v", there)
	}
	_, err := s.recorded(lost.ID)
	assert.Check(t, err)
}

func TestADamagedRecordIsDroppedAndItsStateIsMadeAnew(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"a byte that is no JSON": func(data []byte) []byte { data[0] ^= 1; return data },
		"another state's": func(data []byte) []byte {
			return bytes.Replace(data, []byte(`"id":"sha256:`), []byte(`"id":"sha257:`), 1)
		},
		"other layers": func(data []byte) []byte {
			return bytes.Replace(data, []byte(`"diffIds":["sha256:`), []byte(`"diffIds":["sha257:`), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := statesOf(t)
			damaged, whole := installed(t, s, "damaged"), installed(t, s, "whole")
			err := s.db.Update(func(tx *bolt.Tx) error {
				bucket := tx.Bucket(recordsBucket)
				data := bytes.Clone(bucket.Get([]byte(damaged.ID)))
				return bucket.Put([]byte(damaged.ID), damage(data))
			})
			assert.NilError(t, err)
			again, err := openStates(s.backend, s.db)
			assert.NilError(t, err)
			assert.NilError(t, again.removeLost(context.Background()))
			_, err = again.load(context.Background(), damaged.ID)
			assert.Check(t, is.ErrorIs(err, errNoState), "loaded")
			_, err = again.load(context.Background(), whole.ID)
			assert.Check(t, err)
			if made := installed(t, again, "damaged"); made.ID != damaged.ID || !slices.Equal(made.DiffIDs, damaged.DiffIDs) {
				t.Errorf("made %v", made)
			}
		})
	}
}

func TestTheCacheKeepsWhatWasUsedLastWithinItsSize(t *testing.T) {
	s, _ := statesOf(t)
	for _, name := range []string{"old", "new"} {
		made := installed(t, s, name)
		made.Size = 100
		assert.NilError(t, s.put(made))
		s.letGo(made.ID)
	}
	old := record{}
	all, err := s.list()
	assert.NilError(t, err)
	for _, each := range all {
		if each.Description == "old" {
			old = each
		}
	}
	old.LastUsedAt = old.LastUsedAt.AddDate(0, 0, -1)
	assert.NilError(t, s.put(old))
	w := &Worker{states: s, limits: Limits{CacheBytes: 150}}
	if gone := pruned(t, s, w.GCPolicy()[0]); !slices.Equal(gone, []string{"old"}) {
		t.Errorf("pruned %v", gone)
	}
}

func TestTheCacheKeepsWhatWasUsedLastWithinHalfOfImagesConfigurations(t *testing.T) {
	for _, size := range []int64{0, 1 << 30} {
		s, _ := statesOf(t)
		for at, name := range []string{"oldest", "old", "new"} {
			made := installed(t, s, name)
			made.DiffIDs, made.LastUsedAt = make([]digest.Digest, maxConfigs/3/200), made.LastUsedAt.AddDate(0, 0, at-10)
			assert.NilError(t, s.put(made))
			s.letGo(made.ID)
		}
		w := &Worker{states: s, limits: Limits{CacheBytes: size}}
		removed := make(chan client.UsageInfo, 3)
		assert.NilError(t, w.Prune(t.Context(), removed, w.GCPolicy()...))
		close(removed)
		var gone []string
		for info := range removed {
			gone = append(gone, info.Description)
		}
		if !slices.Equal(gone, []string{"oldest"}) {
			t.Errorf("pruned %v of a cache of %d bytes", gone, size)
		}
	}
}

func TestTheCacheRemovesChildrenBeforeTheirParents(t *testing.T) {
	s, server := statesOf(t)
	made := map[string]record{}
	parent := ""
	for at, name := range []string{"parent", "child", "grandchild", "other"} {
		each := installed(t, s, name)
		s.letGo(each.ID)
		each.Size, each.LastUsedAt = 100, each.LastUsedAt.AddDate(0, 0, at-10)
		if name != "other" {
			each.Parent, parent = parent, each.ID
		}
		assert.NilError(t, s.put(each))
		made[name] = each
	}
	for _, each := range []struct {
		keep int64
		gone []string
	}{
		{300, []string{"grandchild"}},
		{100, []string{"child", "parent"}},
	} {
		if gone := pruned(t, s, client.PruneInfo{All: true, MaxUsedSpace: each.keep}); !slices.Equal(gone, each.gone) {
			t.Errorf("pruned %v instead of %v", gone, each.gone)
		}
	}
	if there := server.Images(); !slices.Equal(there, []string{made["other"].ID}) {
		t.Errorf("the backend has %v", there)
	}
}

// left is the context of a client that leaves once its prune has begun.
type left struct{ context.Context }

func (left) Err() error { return context.Canceled }

func TestAPruneWhoseClientHasLeftEnds(t *testing.T) {
	s, _ := statesOf(t)
	s.letGo(installed(t, s, "free").ID)
	_, err := s.prune(left{t.Context()}, client.PruneInfo{Filter: []string{"id==none"}})
	assert.Check(t, is.ErrorIs(err, context.Canceled))
}

func TestPrunesTakeTurnsAndOneWhoseClientLeavesWaitsNoLonger(t *testing.T) {
	s, server := statesOf(t)
	s.letGo(installed(t, s, "free").ID)
	w := &Worker{states: s}
	removing, goOn := make(chan struct{}), make(chan struct{})
	server.Before = func(procedure string) {
		if procedure == "RemoveImage" {
			close(removing)
			<-goOn
		}
	}
	first, next := make(chan error, 1), make(chan error, 1)
	removed := make(chan client.UsageInfo)
	go func() { first <- w.Prune(t.Context(), removed, client.PruneInfo{All: true}) }()
	<-removing
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	assert.Check(t, is.ErrorIs(w.Prune(ctx, nil, client.PruneInfo{All: true}), context.DeadlineExceeded))
	go func() { next <- w.Prune(t.Context(), nil, client.PruneInfo{All: true}) }()
	close(goOn)
	assert.Check(t, <-next, "while the first one's report is not read")
	<-removed
	assert.Check(t, <-first)
}

func TestTheOrderOfAPruneLooksAtEachRecordTwice(t *testing.T) {
	const parents = 500
	var records []record
	for at := range parents {
		records = append(records, record{ID: fmt.Sprintf("parent %d", at)})
	}
	for at := range parents {
		records = append(records, record{ID: fmt.Sprintf("child %d", at), Parent: records[at].ID})
	}
	for _, each := range []struct {
		removes bool
		yielded int
	}{{false, parents}, {true, 2 * parents}} {
		children := map[string]int{}
		for _, r := range records {
			children[r.Parent]++
		}
		yielded, looks := 0, 0
		for r := range leaves(records, func(id string) bool { looks++; return children[id] > 0 }) {
			yielded++
			if each.removes {
				children[r.Parent]--
			}
		}
		assert.Check(t, is.Equal(yielded, each.yielded))
		assert.Check(t, looks <= 2*len(records), "%d looks at %d records", looks, len(records))
	}
}

func TestAHeldChildKeepsItsParent(t *testing.T) {
	s, _ := statesOf(t)
	parent, child := installed(t, s, "parent"), installed(t, s, "child")
	child.Parent = parent.ID
	assert.NilError(t, s.put(child))
	s.letGo(parent.ID)
	assert.Check(t, is.Len(pruned(t, s, client.PruneInfo{All: true}), 0))
	s.letGo(child.ID)
	if gone := pruned(t, s, client.PruneInfo{All: true}); !slices.Equal(gone, []string{"child", "parent"}) {
		t.Errorf("pruned %v", gone)
	}
}

func TestAStateIsNotItsOwnParent(t *testing.T) {
	s, _ := statesOf(t)
	ctx := context.Background()
	step, err := s.install(ctx, nil, nil, origin{kind: client.UsageRecordTypeInternal})
	assert.NilError(t, err)
	_, err = s.install(ctx, nil, nil, origin{parent: step.ID, description: "unchanged", kind: client.UsageRecordTypeRegular})
	assert.NilError(t, err)
	s.letGo(step.ID)
	s.letGo(step.ID)
	if gone := pruned(t, s, client.PruneInfo{All: true}); !slices.Equal(gone, []string{"unchanged"}) {
		t.Errorf("pruned %v", gone)
	}
}

func TestACommittedStateIsHeldAndKnown(t *testing.T) {
	s, server := statesOf(t)
	ctx, cancel := context.WithCancel(context.Background())
	// A build that is cancelled meanwhile leaves a state that can be pruned.
	server.After = func(string) { cancel() }
	from := origin{description: "RUN", kind: client.UsageRecordTypeRegular}
	made, err := s.commit(ctx, "container", nil, from)
	assert.NilError(t, err)
	if known, err := s.recorded(made.ID); err != nil || known.Description != "RUN" || known.Size != 1024 || len(known.DiffIDs) != 1 {
		t.Errorf("knows %v, %v", known, err)
	}
	assert.Check(t, is.Len(pruned(t, s, client.PruneInfo{All: true}), 0))
	s.letGo(made.ID)
	if gone := pruned(t, s, client.PruneInfo{All: true}); !slices.Equal(gone, []string{"RUN"}) || len(server.Images()) != 0 {
		t.Errorf("pruned %v, left %v", gone, server.Images())
	}
}

func TestAStateThatIsPrunedAsAnEqualOneIsCommittedIsThere(t *testing.T) {
	s, server := statesOf(t)
	ctx := context.Background()
	from := origin{description: "RUN", kind: client.UsageRecordTypeRegular}
	made, err := s.commit(ctx, "container", nil, from)
	assert.NilError(t, err)
	s.letGo(made.ID)
	commits := 0
	server.After = func(string) {
		if commits++; commits == 1 {
			assert.Check(t, is.Len(pruned(t, s, client.PruneInfo{All: true}), 1))
		}
	}
	again, err := s.commit(ctx, "container", nil, from)
	if err != nil || again.ID != made.ID || commits != 2 {
		t.Errorf("made %v by %d commits: %v", again, commits, err)
	}
	if there := server.Images(); !slices.Equal(there, []string{made.ID}) {
		t.Errorf("the backend has %v", there)
	}
	s.letGo(made.ID)
	assert.Check(t, !s.isInUse(made.ID), "it is still held")
}

func TestTheRemovalOfAnotherStateRepeatsNoCommit(t *testing.T) {
	s, server := statesOf(t)
	other := installed(t, s, "of another build")
	s.letGo(other.ID)
	commits := 0
	server.After = func(called string) {
		if called == "CommitContainer" {
			commits++
			if gone := pruned(t, s, client.PruneInfo{All: true}); commits == 1 && len(gone) != 1 {
				t.Errorf("pruned %v", gone)
			}
		}
	}
	made, err := s.commit(context.Background(), "container", nil, origin{description: "RUN", kind: client.UsageRecordTypeRegular})
	if err != nil || commits != 1 {
		t.Errorf("%d commits: %v", commits, err)
	}
	if there := server.Images(); !slices.Equal(there, []string{made.ID}) || len(s.commits) != 0 {
		t.Errorf("the backend has %v, %d commits are under way", there, len(s.commits))
	}
}

func TestTheDescriptionsOfAListAndOfAPruneAreBoundedTogether(t *testing.T) {
	// Fewer and longer than a build makes them: each is removed by a call.
	const states = 20
	s, _ := statesOf(t)
	assert.NilError(t, s.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(recordsBucket)
		for at := range states {
			data := fmt.Appendf(nil, `{"id":"%d","description":"%s"}`, at, strings.Repeat(`\u0001`, 2*maxDescriptions/states))
			if err := bucket.Put(fmt.Append(nil, at), data); err != nil {
				return err
			}
		}
		return nil
	}))
	infos, err := s.usage(nil)
	assert.NilError(t, err)
	gone, err := s.prune(t.Context(), client.PruneInfo{All: true})
	assert.NilError(t, err)
	listed, removed := 0, 0
	for _, info := range infos {
		listed += len(info.Description) - len("…")
	}
	for _, info := range gone {
		removed += len(info.Description) - len("…")
	}
	// The frontend parses a list in one turn of its event loop.
	answer, err := json.Marshal(infos)
	assert.Check(t, err == nil && len(answer) <= 16<<20, "an answer of %d bytes, %v", len(answer), err)
	assert.Check(t, len(infos) == states && listed <= maxDescriptions, "%d states with %d bytes", len(infos), listed)
	assert.Check(t, len(gone) == states && removed <= maxDescriptions, "%d states with %d bytes", len(gone), removed)
}

func TestTheRemovalOfLostStatesEndsWithTheBuilder(t *testing.T) {
	s, server := statesOf(t)
	for _, name := range []string{"first", "second", "third"} {
		lost := installed(t, s, name)
		s.letGo(lost.ID)
		assert.NilError(t, s.forget(lost.ID))
	}
	ctx, cancel := context.WithCancel(t.Context())
	server.Before = func(procedure string) {
		if procedure == "RemoveImage" {
			cancel()
		}
	}
	defer bklog.L.Logger.ReplaceHooks(bklog.L.Logger.ReplaceHooks(logrus.LevelHooks{}))
	warnings := logrustest.NewLocal(bklog.L.Logger)
	assert.NilError(t, s.removeLost(ctx))
	assert.Check(t, len(warnings.AllEntries()) <= 1, "%d warnings", len(warnings.AllEntries()))
}

func TestADescriptionIsBounded(t *testing.T) {
	s, _ := statesOf(t)
	made := installed(t, s, strings.Repeat("ü", 3<<20))
	known, err := s.recorded(made.ID)
	must(t, err)
	if want := strings.Repeat("ü", maxDescription/2) + "…"; known.Description != want {
		t.Errorf("recorded are %d bytes", len(known.Description))
	}
}
