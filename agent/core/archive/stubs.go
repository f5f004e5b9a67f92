package archive

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
)

// stubsOf finds the paths that a runtime creates to mount on the given points of
// an image (layers top first), following the image's links.
func stubsOf(image, points []string) (map[string]bool, error) {
	stubs := map[string]bool{}
	if len(points) == 0 {
		return stubs, nil
	}
	root, err := openLevel(image)
	if err != nil {
		return nil, err
	}
	defer root.close()
	for _, point := range points {
		for range maxLinks {
			next, err := root.firstLink(point)
			if err != nil {
				return nil, err
			}
			if next == "" {
				addPath(stubs, point)
				break
			}
			point = next
		}
	}
	return stubs, nil
}

// addPath adds an absolute path and its parents.
func addPath(paths map[string]bool, name string) {
	for name = path.Clean("/" + name); name != "/"; name = path.Dir(name) {
		paths[name] = true
	}
}

// firstLink returns the target of a path after its first link is resolved; "": no
// link.
func (l level) firstLink(name string) (string, error) {
	elements := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	at := l
	for i, element := range elements {
		var st unix.Stat_t
		layer, err := at.find(element, &st)
		if err != nil || layer < 0 {
			return "", err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			to, err := openat.ReadLink(at[layer], element)
			if err != nil {
				return "", pathError("readlink", element, err)
			}
			if !path.IsAbs(to) {
				to = path.Join("/", path.Join(elements[:i]...), to)
			}
			return path.Join("/", to, path.Join(elements[i+1:]...)), nil
		}
		below, err := at.descend(element)
		if err != nil {
			return "", err
		}
		defer below.close()
		at = below
	}
	return "", nil
}
