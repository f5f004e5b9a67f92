/** A volume's directory as shown to Docker's clients. It does not exist: the volume is on EFS. */
export function volumeMountpoint(name: string): string {
  return `/var/lib/docker/volumes/${name}/_data`;
}
