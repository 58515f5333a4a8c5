//! The fields of STK_InStock (采购入库单): where each stands, what it holds, whether it must be there.

/// The form id.
pub(super) const STOCK_IN: &str = "STK_InStock";
/// Names for query keys that are no stored field.
pub(super) const ENTRY_ID: &str = "FInStockEntry_FEntryId";
pub(super) const ENTRY_SEQ: &str = "FInStockEntry_FSeq";

/// Where a field stands in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Header,
    Finance,
    Entry,
}

/// Base data that the sandbox keeps and looks up. Codes of other kinds are taken as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Base {
    Material,
    Supplier,
    Stock,
    Organisation,
    Other,
}

impl Base {
    /// What Kingdee calls it in messages.
    pub(super) fn title(self) -> &'static str {
        match self {
            Base::Material => "物料",
            Base::Supplier => "供应商",
            Base::Stock => "仓库",
            Base::Organisation => "组织",
            Base::Other => "资料",
        }
    }

    /// The form id under which it is queried.
    pub(super) fn form(self) -> &'static str {
        match self {
            Base::Material => "BD_MATERIAL",
            Base::Supplier => "BD_Supplier",
            Base::Stock => "BD_STOCK",
            Base::Organisation => "ORG_Organizations",
            Base::Other => "",
        }
    }

    /// The kind of that form id, or of the admin endpoint's word for it.
    pub(crate) fn of(name: &str) -> Option<Base> {
        let all = [Base::Material, Base::Supplier, Base::Stock, Base::Organisation];
        let word = |base: Base| match base {
            Base::Material => "material",
            Base::Supplier => "supplier",
            Base::Stock => "stock",
            _ => "organisation",
        };
        all.into_iter().find(|base| base.form().eq_ignore_ascii_case(name) || word(*base) == name)
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Flag,
    Date,
    /// An object with `FNumber`.
    Code(Base),
    /// An object or array that is kept as it is.
    Raw,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// The field of that name in any case.
pub(super) fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name.eq_ignore_ascii_case(name))
}

/// A custom field of a tenant, such as `F_ABCD_Text`; taken anywhere and kept as text.
pub(super) fn is_custom(name: &str) -> bool {
    name.starts_with("F_") && name.len() > 4
}

const fn must(name: &'static str, title: &'static str, place: Place, kind: Kind) -> Field {
    Field { name, title, place, kind, required: true }
}

const fn may(name: &'static str, title: &'static str, place: Place, kind: Kind) -> Field {
    Field { name, title, place, kind, required: false }
}

use Base::{Material, Organisation, Other, Stock, Supplier};
use Kind::{Code, Date, Flag, Number, Raw, Text};
use Place::{Entry, Finance, Header};

/// Every field that a model may hold, besides `FID`, `FBillNo`, `FInStockFin` and `FInStockEntry`.
pub(super) static FIELDS: [Field; 79] = [
    must("FBillTypeID", "单据类型", Header, Code(Other)),
    may("FBusinessType", "业务类型", Header, Text),
    must("FDate", "入库日期", Header, Date),
    must("FStockOrgId", "收料组织", Header, Code(Organisation)),
    may("FPurchaseOrgId", "采购组织", Header, Code(Organisation)),
    may("FDemandOrgId", "需求组织", Header, Code(Organisation)),
    may("FCorrespondOrgId", "对应组织", Header, Code(Organisation)),
    may("FStockDeptId", "收料部门", Header, Code(Other)),
    may("FStockerId", "仓管员", Header, Code(Other)),
    may("FStockerGroupId", "库存组", Header, Code(Other)),
    may("FPurchaseDeptId", "采购部门", Header, Code(Other)),
    may("FPurchaserId", "采购员", Header, Code(Other)),
    may("FPurchaserGroupId", "采购组", Header, Code(Other)),
    must("FSupplierId", "供应商", Header, Code(Supplier)),
    may("FSupplyId", "供货方", Header, Code(Supplier)),
    may("FSettleId", "结算方", Header, Code(Supplier)),
    may("FChargeId", "收款方", Header, Code(Supplier)),
    may("FOwnerTypeIdHead", "货主类型", Header, Text),
    may("FOwnerIdHead", "货主", Header, Code(Other)),
    may("FDeliveryBill", "送货单号", Header, Text),
    may("FTakeDeliveryBill", "提货单号", Header, Text),
    may("FCDateOffsetValue", "承诺交货偏移", Header, Number),
    may("FSplitBillType", "拆单类型", Header, Text),
    may("FSettleOrgId", "结算组织", Finance, Code(Organisation)),
    may("FPayOrgId", "付款组织", Finance, Code(Organisation)),
    may("FSettleCurrId", "结算币别", Finance, Code(Other)),
    may("FLocalCurrId", "本位币", Finance, Code(Other)),
    may("FExchangeTypeId", "汇率类型", Finance, Code(Other)),
    may("FExchangeRate", "汇率", Finance, Number),
    may("FIsIncludedTax", "含税", Finance, Flag),
    may("FPriceTimePoint", "定价时点", Finance, Text),
    may("FISPRICEEXCLUDETAX", "价外税", Finance, Flag),
    may("FSettleTypeId", "结算方式", Finance, Code(Other)),
    may("FPayConditionId", "付款条件", Finance, Code(Other)),
    may("FPriceListId", "价目表", Finance, Code(Other)),
    may("FDiscountListId", "折扣表", Finance, Code(Other)),
    may("FRowType", "产品类型", Entry, Text),
    must("FMaterialId", "物料编码", Entry, Code(Material)),
    may("FUnitID", "库存单位", Entry, Code(Other)),
    must("FRealQty", "实收数量", Entry, Number),
    may("FMustQty", "应收数量", Entry, Number),
    may("FPriceUnitID", "计价单位", Entry, Code(Other)),
    may("FRemainInStockUnitId", "采购单位", Entry, Code(Other)),
    may("FPriceUnitQty", "计价数量", Entry, Number),
    may("FPriceBaseQty", "计价基本数量", Entry, Number),
    may("FRemainInStockQty", "采购数量", Entry, Number),
    may("FRemainInStockBaseQty", "采购基本数量", Entry, Number),
    may("FAPNotJoinQty", "未关联应付数量", Entry, Number),
    may("FPrice", "单价", Entry, Number),
    may("FTaxPrice", "含税单价", Entry, Number),
    may("FEntryTaxRate", "税率%", Entry, Number),
    may("FDiscountRate", "折扣率%", Entry, Number),
    may("FLot", "批号", Entry, Code(Other)),
    may("FProduceDate", "生产日期", Entry, Date),
    may("FExpiryDate", "有效期至", Entry, Date),
    must("FStockId", "仓库", Entry, Code(Stock)),
    may("FStockLocId", "仓位", Entry, Raw),
    may("FStockStatusId", "库存状态", Entry, Code(Other)),
    may("FMtoNo", "计划跟踪号", Entry, Text),
    may("FGiveAway", "是否赠品", Entry, Flag),
    may("FOWNERTYPEID", "货主类型", Entry, Text),
    may("FOWNERID", "货主", Entry, Code(Other)),
    may("FKeeperTypeID", "保管者类型", Entry, Text),
    may("FKeeperID", "保管者", Entry, Code(Other)),
    may("FNote", "备注", Entry, Text),
    may("FCMKBarCode", "零售条形码", Entry, Text),
    may("FCheckInComing", "来料检验", Entry, Flag),
    may("FIsReceiveUpdateStock", "收料更新库存", Entry, Flag),
    may("FSRCBILLTYPEID", "源单类型", Entry, Text),
    may("FSRCBillNo", "源单编号", Entry, Text),
    may("FPOOrderNo", "订单单号", Entry, Text),
    may("FPOORDERENTRYID", "订单分录内码", Entry, Text),
    may("FContractNo", "合同单号", Entry, Text),
    may("FReqTraceNo", "需求跟踪号", Entry, Text),
    may("FBomId", "BOM版本", Entry, Code(Other)),
    may("FAuxPropId", "辅助属性", Entry, Raw),
    may("FAuxUnitID", "辅助单位", Entry, Code(Other)),
    may("FAuxUnitQty", "辅助单位数量", Entry, Number),
    may("FInStockEntry_Link", "关联关系", Entry, Raw),
];
