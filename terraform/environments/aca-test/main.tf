# A small and cheap place to try the ACA backend: while no container runs, only the registry costs.

module "aca" {
  source = "../../modules/aca"

  backend_principals = var.backend_principals
  callback_url       = var.callback_url
  environment        = "test"
  location           = var.location
  log_daily_quota_gb = 1
  name               = var.name
}
