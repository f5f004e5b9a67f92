package openat

import "golang.org/x/sys/unix"

// ReadLink reads the link name in a directory, or the link that is open as
// directory itself if name is empty.
func ReadLink(directory int, name string) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(directory, name, buffer)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}
