import type { AccessPoints } from "../access-points/access-points.ts";
import { formatAccessPoint } from "../access-points/reference.ts";
import { instanceTag, partOfTag, tagValue, volumeTag } from "../tags.ts";
import type { Known, Orphan } from "../../cloud/orphans/orphan.ts";

/** Access points of volumes. The content of a volume stays on the file system. */
export async function orphanedAccessPoints(
  accessPoints: AccessPoints,
  fileSystemId: string,
  own: string,
  known: Known,
): Promise<Orphan[]> {
  const found: Orphan[] = [];
  for (const { AccessPointId: id = "", Tags = [] } of await accessPoints.list()) {
    const volume = tagValue(Tags, volumeTag);
    const instance = tagValue(Tags, instanceTag) ?? "";
    const whole = tagValue(Tags, partOfTag);
    const reference = formatAccessPoint({ fileSystemId, accessPointId: whole ?? id });
    if (volume === undefined || (instance === own && known.hasVolume(reference))) {
      continue;
    }
    found.push({
      kind: "access point",
      id,
      purpose: whole === undefined ? `volume ${volume}` : `a directory of volume ${volume}`,
      instance,
      async remove() {
        await accessPoints.remove(id);
        return undefined;
      },
    });
  }
  return found;
}
