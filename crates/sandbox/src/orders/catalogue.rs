//! The example catalogue that both sides share: materials, suppliers, warehouses, carriers.

use rust_decimal::Decimal;

/// How many materials there are: `SP-1001` and up.
pub(crate) const MATERIALS: u32 = 240;
/// How many suppliers there are: `GYS0001` and up.
pub(crate) const SUPPLIERS: u32 = 24;
/// In Kingdee, but disabled.
pub(crate) const DISABLED_SUPPLIER: &str = "GYS0901";
/// Not in Kingdee.
pub(crate) const UNKNOWN_SUPPLIER: &str = "GYS0999";
/// Not in Kingdee.
pub(crate) const UNKNOWN_WAREHOUSE: &str = "XJ99";
/// WDT's warehouse number, the Kingdee stock of its own code, and the name.
pub(crate) const WAREHOUSES: [(&str, &str, &str); 5] = [
    ("SH01", "CK001", "上海主仓"),
    ("HZ02", "CK002", "杭州二仓"),
    ("GZ03", "CK003", "广州仓"),
    ("BJ04", "CK004", "北京仓"),
    ("CD05", "CK005", "成都退货仓"),
];
/// Carrier names and codes.
pub(crate) const CARRIERS: [(&str, &str); 3] = [("示例速运", "SLSY"), ("示例物流", "SLWL"), ("自送", "ZS")];

/// One material.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) spec_no: String,
    pub(crate) goods_no: String,
    pub(crate) goods_name: String,
    pub(crate) spec_name: String,
    pub(crate) brand_name: &'static str,
    pub(crate) unit_name: &'static str,
    /// Price before tax in hundredths.
    pub(crate) cents: u32,
    /// The rate as a fraction.
    pub(crate) tax: Decimal,
}

/// The material of that number; indexes wrap around.
pub(crate) fn material(index: u32) -> Material {
    let index = index % MATERIALS;
    let names =
        ["坚果礼盒", "保温杯", "纯棉毛巾", "五香牛肉干", "“经典”笔记本", "儿童雨衣", "LED台灯", "洗衣液"];
    let looks = ["750g", "象牙白 480ml", "L/浅灰", "1.5kg*2", "蓝\\绿双色", "标准装", "12\"款", "大号"];
    let brands = ["示例", "样品牌", "Beispiel", "例の店"];
    let units = ["盒", "个", "条", "袋", "本", "件", "台", "瓶"];
    let rates = [13_i64, 13, 9, 13, 6, 13, 0, 3];
    let kind = (index % 8) as usize;
    Material {
        spec_no: format!("SP-{}", 1001 + index),
        goods_no: format!("HP-{}", 1001 + index / 2),
        goods_name: names[kind].to_owned(),
        spec_name: looks[(index / 3 % 8) as usize].to_owned(),
        brand_name: brands[(index / 8 % 4) as usize],
        unit_name: units[kind],
        cents: 150 + index * 7919 % 29_850,
        tax: Decimal::new(rates[(index / 8 % 8) as usize], 2),
    }
}

/// A supplier's number; indexes wrap around.
pub(crate) fn supplier_no(index: u32) -> String {
    format!("GYS{:04}", index % SUPPLIERS + 1)
}

/// A supplier's name; indexes wrap around.
pub(crate) fn supplier_name(index: u32) -> String {
    let places = ["杭州", "上海", "广州", "宁波", "成都", "青岛"];
    let trades = ["食品", "日用品", "纺织", "电器"];
    let index = index % SUPPLIERS;
    format!("{}示例{}有限公司", places[(index % 6) as usize], trades[(index / 6) as usize])
}
