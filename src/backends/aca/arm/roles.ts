/** Roles that the backend needs, by the calls that they are for; docs/backends/aca.md has their scopes. */

/** The first whose beginning an operation has counts. */
const roles: readonly (readonly [beginning: string, role: string])[] = [
  ["Job", "Container Apps Jobs Contributor"],
  ["ManagedEnvironments", "Container Apps ManagedEnvironments Contributor"],
  ["StorageAccounts", "Storage Account Contributor"],
  ["FileShares", "Storage Account Contributor"],
  ["Query_", "Log Analytics Reader"],
  ["Registries_ImportImage", "Container Registry Data Importer and Data Reader"],
];

/**
 * The role that allows a call; undefined: none of those that are documented.
 *
 * @param words of the refusal: a job is refused, too, for the identity that it is to have
 */
export function roleFor(operation: string, words: string): string | undefined {
  if (words.includes("Microsoft.ManagedIdentity/")) {
    return "Managed Identity Operator";
  }
  return roles.find(([beginning]) => operation.startsWith(beginning))?.[1];
}
