//! The product's own program is accepted by the P4Runtime server: P4Info and BMv2 JSON of p4/compiled.

mod target;

use std::path::Path;

use p4runtime::P4Info;
use p4runtime::client::PipelineAction;
use target::Target;

#[tokio::test]
async fn every_profile_of_the_upf_program_is_accepted() {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../p4/compiled");
    let files = std::fs::read_dir(&compiled).expect("p4/compiled is committed");
    let mut programs = 0;
    for path in files.map(|file| file.expect("a directory entry").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".p4info.txtpb") else {
            continue;
        };
        let info = P4Info::from_file(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let program = std::fs::read(compiled.join(format!("{stem}.json"))).expect("the JSON is beside the P4Info");
        let target = Target::bare().await;
        let (client, _events) = target.client(1).await;
        let set = client
            .set_pipeline(&info, program, None, PipelineAction::VerifyAndCommit)
            .await;
        set.unwrap_or_else(|error| panic!("{stem}: {error}"));
        programs += 1;
    }
    assert!(programs > 0, "{} has no programs", compiled.display());
}
