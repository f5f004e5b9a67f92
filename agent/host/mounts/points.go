package mounts

import (
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Points are mount points, in order. One with mounts on top of each other is there
// for each.
type Points []string

// MachinePoints lists the machine's mount points.
func MachinePoints() (Points, error) {
	var points Points
	_, err := mountinfo.GetMounts(func(mount *mountinfo.Info) (skip, stop bool) {
		points = append(points, mount.Mountpoint)
		return true, false
	})
	slices.Sort(points)
	return points, err
}

// CountInClone returns how many mounts a clone of a path without links has: its
// own, and those beneath it.
func (p Points) CountInClone(path string) int {
	path = strings.TrimSuffix(path, "/")
	first, _ := slices.BinarySearch(p, path+"/\x00") // behind "/" itself
	behind, _ := slices.BinarySearch(p, path+"0")    // the byte after the slash
	return 1 + behind - first
}
