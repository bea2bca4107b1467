use anyhow::Result;

#[derive(clap::Args)]
pub struct Args {}

#[derive(clap::Args)]
pub struct DemoArgs {}

pub fn run(_args: Args) -> Result<()> {
    anyhow::bail!("not built yet")
}

pub fn demo(_args: DemoArgs) -> Result<()> {
    anyhow::bail!("not built yet")
}
