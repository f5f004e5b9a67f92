package archive

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"
)

func TestALayerTakesAwayWhatItsWhiteoutsName(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"gone", "x"}, [2]string{"tree/below/f", "x"}, [2]string{"opaque/old", "x"}, [2]string{"opaque/sub/old", "x"},
		[2]string{"changed", "old"}, [2]string{"kept/f", "kept"}, [2]string{"was", "file"})
	layer := pack(t, file(".wh.gone", ""), file(".wh.tree", ""), file(".wh.never-there", ""), file("no/such/.wh.name", ""),
		directory("opaque"), file("opaque/new", "new"), directory("opaque/sub"), file("opaque/sub/new", "new"), file("opaque/.wh..wh..opq", ""),
		file("changed", "new"), directory("was"), file("was/below", "new"),
		member{header: tar.Header{Typeflag: tar.TypeLink, Name: "linked", Linkname: "kept/f"}})
	must(t, put(t, r, "/", layer, PutOptions{Layer: &Bounds{}}))
	for name, want := range map[string]string{"opaque/new": "new", "opaque/sub/new": "new", "changed": "new", "kept/f": "kept", "was/below": "new", "linked": "kept"} {
		if got := content(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, name := range []string{"gone", "tree", "opaque/old", "opaque/sub/old", ".wh.gone", "opaque/.wh..wh..opq", "no"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALayerLeavesAloneWhatIsMounted(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"etc/hosts", "mounted"}, [2]string{"data/f", "mounted"}, [2]string{"etc/other", "old"}, [2]string{"own/f", "own"})
	layer := pack(t, file("etc/hosts", "layer"), file("etc/other", "layer"), directory("data"), file("data/g", "layer"), file("data/.wh.f", ""),
		file("data/.wh..wh..opq", ""), file("etc/.wh.hosts", ""), file(".wh.own", ""))
	bounds := &Bounds{Mounts: map[string]bool{"/etc/hosts": true, "/data": true}, Hidden: map[string]bool{"/own": true}}
	must(t, put(t, r, "/", layer, PutOptions{Layer: bounds}))
	for name, want := range map[string]string{"etc/hosts": "mounted", "data/f": "mounted", "etc/other": "layer", "own/f": "own"} {
		if got := content(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "data/g")); !os.IsNotExist(err) {
		t.Error("a mount has a file of the layer")
	}
}

func TestAWhiteoutLeadsNowhereElse(t *testing.T) {
	r, dir, _ := newRoot(t)
	plant(t, dir, [2]string{"d/f", "kept"})
	for _, name := range []string{"d/.wh.", "d/.wh..", "d/.wh..."} {
		if err := put(t, r, "/", pack(t, file(name, "")), PutOptions{Layer: &Bounds{}}); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if got := content(t, filepath.Join(dir, "d/f")); got != "kept" {
		t.Errorf("%q", got)
	}
}
