package volumes

import "path/filepath"

// Directory is where a volume's files are, whether it exists or not.
func (s *Store) Directory(name string) (string, error) {
	path, err := s.path(name)
	return filepath.Join(path, "_data"), err
}
