//! Orders as WDT sends them over Qimen, generated; every one has a number of its own and the same length.

use std::fmt::Write as _;

use bytes::Bytes;
use kingpost_model::{RecordKey, StageName, Work, WorkId};

use crate::pipeline::SCHEME;

/// Time of approval of the first order, in milliseconds since the epoch.
const FIRST_MS: u64 = 1_767_600_000_000;

/// A stock-in with so many lines.
pub(super) fn order(number: usize, lines: usize) -> String {
    let mut json = String::with_capacity(500 + lines * 500);
    let time = FIRST_MS + number as u64 * 1_000;
    // Writing to a String can't fail.
    let _ = write!(
        json,
        r#"{{"order_no":"RK{number:010}","warehouse_no":"SH01","status":"80","created_time":"{time}","check_time":"{time}","modified":"{time}","purchase_no":"CG{:010}","provider_no":"GYS{:04}","provider_name":"示例食品有限公司","outer_no":"","goods_count":"148.0000","goods_amount":"2930.0000","total_price":"2880.0000","logistics_type":"","logistics_name":"","logistics_code":"","logistics_no":"SF{number:013}","flag_name":"无","remark":"","details_list":["#,
        number / 3,
        number % 50,
    );
    for line in 0..lines {
        let comma = if line == 0 { "" } else { "," };
        let (batch, produced, expire, remark) = match line % 3 {
            0 => ("20260105A", "2026-01-05 00:00:00", "2027-01-05 00:00:00", ""),
            1 => ("", "", "", "补货"),
            _ => ("20260105B", "2026-01-05 00:00:00", "2027-01-05 00:00:00", "到货时外箱破损，已拍照"),
        };
        let price = if line % 7 == 6 { "0.0000" } else { "13.5600" };
        let _ = write!(
            json,
            r#"{comma}{{"rec_id":{},"num":"{}.0000","cost_price":"12.5000","discount":"0.9600","src_price":"12.0000","tax":"0.1300","tax_price":"{price}","total_cost":"1200.0000","tax_amount":"1356.0000","spec_no":"SP-{}","goods_no":"HP-{}","goods_name":"坚果礼盒","spec_name":"750g","brand_name":"示例","unit_name":"盒","batch_no":"{batch}","production_date":"{produced}","expire_date":"{expire}","position_no":"A01-{:02}-03","defect":{},"prop2":"","remark":"{remark}"}}"#,
            311_001 + line,
            100 + line,
            1_001 + line,
            1_001 + line,
            line % 20,
            line % 11 == 10,
        );
    }
    json.push_str("]}");
    json
}

/// Work for the transformer, with the headers that the extractor gives it.
pub(super) fn works(count: usize, lines: usize) -> Vec<Work> {
    (0..count)
        .map(|number| {
            let key = RecordKey::new("purchase-stockin", format!("RK{number:010}"));
            let id = WorkId::new(format!("{SCHEME}-RK{number:010}-9f2c41d8e07b3a65"));
            let mut work =
                Work::new(id, StageName::Transform, SCHEME, key, Bytes::from(order(number, lines)));
            work.modified_ms = Some(1_767_600_000_000);
            work.extracted_ms = Some(1_767_600_300_000);
            work
        })
        .collect()
}
