package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/solver/pb"

	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// maxGivenFiles bounds how much of a step's files, secrets included, is read into memory.
const maxGivenFiles = 4 << 20

// giveFile sends a singly mounted file with the step's start; not ok: it is not a regular file.
func (s *step) giveFile(ctx context.Context, mount *pb.Mount, from *ref, name string) (ok bool, err error) {
	file, info, err := from.regularFile(ctx, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && file == "" {
		return false, nil // the mount reports the error
	}
	if err != nil {
		return false, err
	}
	left := int64(maxGivenFiles)
	for _, each := range s.secrets.Files {
		left -= int64(len(each.Content))
	}
	if info.Size() > left {
		return false, fmt.Errorf("sockerless: %s takes %d bytes: a file that is mounted at %s by itself may take %d here beside the step's other files, its directory any number",
			name, info.Size(), mount.Dest, max(left, 0))
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	s.secrets.Files = append(s.secrets.Files, &backendv1.SecretFile{
		Path: mount.Dest, Content: content, Mode: uint32(info.Mode().Perm()), Uid: owner.Uid, Gid: owner.Gid,
	})
	return true, nil
}

// regularFile returns the path on this machine of a regular file of a state or a context; "" if it is not one.
func (r *ref) regularFile(ctx context.Context, name string) (string, fs.FileInfo, error) {
	var dir string
	if r.isState() {
		if _, err := r.files.look(ctx, name); err != nil {
			return "", nil, err
		}
		dir = r.files.dir
	} else {
		dir = r.context.path
	}
	file, err := continuity.RootPath(dir, name)
	if err != nil {
		return "", nil, err
	}
	info, err := os.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return "", nil, err
	}
	return file, info, nil
}
