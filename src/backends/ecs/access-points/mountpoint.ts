/** The directory that Docker's clients are shown for a volume. There is none: the volume is on EFS. */
export function volumeMountpoint(name: string): string {
  return `/var/lib/docker/volumes/${name}/_data`;
}
