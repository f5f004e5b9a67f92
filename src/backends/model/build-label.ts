/**
 * Things that belong to builds: containers of steps and images of states between them, which users do not see. Containers
 * are known by their label, which no user's has; images by their records, as anybody's image may bring any label.
 */
import { buildLabel } from "../../common/build-label.ts";
import type { StringList } from "../../gen/sockerless/backend/v1/config_pb.ts";

/** Whether labels are those of a build's container. */
export function isOfBuild(labels: Readonly<Record<string, string>>): boolean {
  return Object.hasOwn(labels, buildLabel);
}

/** Labels of an image as its containers get them: no image makes its containers a build's. */
export function withoutBuildLabel(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => name !== buildLabel));
}

/** Whether a listing's filters ask for what belongs to builds. */
export function asksForBuilds(filters: Readonly<Record<string, StringList>>): boolean {
  return filters["label"]?.values.some((value) => value.split("=", 1)[0] === buildLabel) === true;
}
