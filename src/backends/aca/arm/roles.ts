/** Roles that the backend needs, by call; docs/backends/aca.md has their scopes. */

/** Roles by prefix of the operation; the first match counts. */
const roles: readonly (readonly [beginning: string, role: string])[] = [
  ["Job", "Container Apps Jobs Contributor"],
  ["ManagedEnvironment", "Container Apps ManagedEnvironments Contributor"],
  ["StorageAccounts", "Storage Account Contributor"],
  ["FileShares", "Storage Account Contributor"],
  ["Query_", "Log Analytics Reader"],
  ["Registries_ImportImage", "Container Registry Data Importer and Data Reader"],
];

/**
 * The role that permits a call; undefined if it is none of the documented ones.
 *
 * @param words the refusal's text, as a job may also be refused because of its identity
 */
export function roleFor(operation: string, words: string): string | undefined {
  if (words.includes("Microsoft.ManagedIdentity/")) {
    return "Managed Identity Operator";
  }
  return roles.find(([beginning]) => operation.startsWith(beginning))?.[1];
}
